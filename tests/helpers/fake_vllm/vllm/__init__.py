"""Stands in for vLLM where a test is about the launcher: first on PYTHONPATH, started like the real one."""
