"""Checkpoints: the files of a model on disk and what they say, without reading its weights."""
