"""Pruning: half of the routed experts' NVFP4 weights set to zero, in patterns that a kernel can skip.

Offline, from one checkpoint to another of the same layout: `dgx-vllm prune`, `eval-prune` and `calibrate`.
"""
