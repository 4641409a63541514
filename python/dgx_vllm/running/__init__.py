"""Servers that run on this machine: how they make themselves known, and how they are found."""
