"""The machines and the command line of helpers/launch_fixtures.py."""

from helpers.launch_fixtures import checkpoint, dgx_vllm, laptop

__all__ = ["checkpoint", "dgx_vllm", "laptop"]
