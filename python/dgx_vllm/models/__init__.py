"""Models that were downloaded: which, how large, when last used, and their removal."""
