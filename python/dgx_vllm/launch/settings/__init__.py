"""Flags, files, environment and profile, ranked and resolved without looking at the machine."""
