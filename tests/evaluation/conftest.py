"""The text and the command of helpers/text_fixtures.py."""

from helpers.text_fixtures import command, demo_text

__all__ = ["command", "demo_text"]
