"""The service: one instance's settings as systemd units, and their installation without NixOS.

nix/service does the same for NixOS. Both read `units.toml`, and the check `service` compares the units that
each makes for an instance.
"""
