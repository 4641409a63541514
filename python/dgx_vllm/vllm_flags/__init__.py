"""The flags of `vllm serve` 0.32: read, checked and written. flags.json is generated."""
