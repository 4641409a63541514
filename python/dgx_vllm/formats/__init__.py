"""Number formats (FP8, NVFP4), and which of a model's tensors get which."""
