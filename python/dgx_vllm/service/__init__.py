"""The service: one instance's settings as systemd units, and their installation without NixOS.

nix/service is the same for NixOS. `units.toml` holds what both take as it stands, and the check `service`
holds what each makes of an instance against the other.
"""
