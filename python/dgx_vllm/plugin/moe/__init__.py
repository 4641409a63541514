"""NVFP4 routed experts on GPUs, for `--moe-backend dgx`."""
