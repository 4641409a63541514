"""Help for vLLM's own flags. It is read from the installed vLLM's source, without importing it."""
