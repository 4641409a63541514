"""What the kernels take. Constants of kernels/*.cuh, which a test compares with these."""

#: Tokens of one call. On a GB10 vLLM's own kernels may be faster from fewer tokens on, which is not measured.
MAX_TOKENS = 16
#: NVFP4 matrix dimensions must be multiples of this.
DIM_MULTIPLE = 64
#: The largest hidden size of a MoE layer.
MAX_HIDDEN = 16384
#: Routed experts that a token may choose.
MAX_EXPERTS_PER_TOKEN = 32
