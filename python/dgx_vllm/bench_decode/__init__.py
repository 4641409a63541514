"""`dgx-vllm bench-decode`: decoding speed in vLLM itself, for several ways to serve one model."""
