"""The servers that run on this machine: how they are found, and what can be done with them."""
