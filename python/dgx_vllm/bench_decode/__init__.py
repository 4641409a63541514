"""Decode measured with vLLM itself, several ways of serving one model in one run."""
