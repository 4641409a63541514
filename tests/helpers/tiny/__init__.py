"""Tiny checkpoints of the profiles' architectures, with random weights.

Names, layout and quantization are those of the published checkpoints; sizes are a few channels. `drawing`
says why their greedy answers depend on the whole context, and why drafts are sometimes accepted.
"""
