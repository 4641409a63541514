"""The Hugging Face hub: requests with time limits, and the folders of its cache."""
