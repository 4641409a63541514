"""The machines and the command line of helpers/launch_fixtures.py."""

from helpers.launch_fixtures import checkpoint, fake_environment, start

__all__ = ["checkpoint", "fake_environment", "start"]
