"""vLLM on NVIDIA's DGX Spark: one command, no surprises."""

__version__ = "0.1.0"
