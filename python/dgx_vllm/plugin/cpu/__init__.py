"""NVFP4 layers, and FP8 in mixed checkpoints, on vLLM's CPU backend."""
