"""This machine: GPUs, memory, driver, disks and cache directories. Imports neither torch nor vLLM."""
