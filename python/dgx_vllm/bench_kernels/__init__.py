"""`dgx-vllm bench-kernels`: our decode kernels, vLLM's own, and reading the same bytes without arithmetic.

Everything is timed in CUDA graphs of many layers, with more weights than the L2 cache holds. Each way to
compute a MoE layer is an `implementation.Implementation`; adding one to `command` adds its rows.
"""
