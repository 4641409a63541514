"""The flags of vLLM 0.32's `serve`: reading, checking and writing them; flags.json is generated."""
