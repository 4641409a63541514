"""Number formats (FP8, NVFP4), and which tensors of a model use which."""
