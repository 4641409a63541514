"""The Hugging Face hub: what it is asked, with time limits, and its cache folders."""
