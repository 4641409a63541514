"""Help on vLLM's own flags, read from the source of the vLLM that is installed, without importing it."""
