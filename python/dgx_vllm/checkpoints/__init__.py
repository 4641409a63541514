"""Checkpoints: a model's files on disk, and what they say about it. Weights are not read."""
