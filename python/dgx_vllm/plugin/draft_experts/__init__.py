"""A draft model's routed experts, quantized to NVFP4 while they load."""
