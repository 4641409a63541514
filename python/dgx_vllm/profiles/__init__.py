"""Profiles: the settings that are known to serve a model well. Each TOML file here is for one model."""
