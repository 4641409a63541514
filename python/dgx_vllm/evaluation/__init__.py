"""Evaluation: how much quality an option costs, in each layer and in the predictions."""
