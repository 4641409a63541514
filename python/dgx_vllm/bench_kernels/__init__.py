"""`dgx-vllm bench-kernels`: the decode kernels beside vLLM's own and beside the same bytes only read.

Everything is timed in CUDA graphs of many layers, over more weights than L2 holds. An implementation of a
MoE layer is an `implementation.Implementation`; adding one to `command` adds its rows.
"""
