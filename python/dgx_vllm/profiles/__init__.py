"""Profiles: what is known to serve one model well. Each TOML file here is one model's."""
