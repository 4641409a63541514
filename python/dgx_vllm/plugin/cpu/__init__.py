"""NVFP4 layers on vLLM's CPU backend."""
