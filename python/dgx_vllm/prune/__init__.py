"""Pruning: half of the routed experts' NVFP4 weights set to zero, in patterns that a kernel can skip.

It works offline, from one checkpoint to another of the same layout. The commands are `dgx-vllm prune`,
`eval-prune` and `calibrate`.
"""
