"""What the flake is made of, as data, and how it is had from the machine's own package managers.

Two entry points: `offline` (fetch pinned files into the store, then run nix) and `update` (make the pins
anew).
Only the standard library is imported here, except by `update` and `audit`, which run in an environment of
ours.
"""
