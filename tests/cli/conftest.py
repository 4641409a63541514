"""The machines and the command line of helpers/launch_fixtures.py."""

from helpers.launch_fixtures import fake_environment

__all__ = ["fake_environment"]
