"""Evaluation: what an option costs in quality, layer by layer and in what the model predicts."""
