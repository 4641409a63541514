"""Checks that need the machine, made before vLLM starts."""
