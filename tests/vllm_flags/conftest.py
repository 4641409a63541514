"""The machines and the command line of helpers/launch_fixtures.py."""

from helpers.launch_fixtures import dgx_vllm, laptop, spark, vllm_parser

__all__ = ["dgx_vllm", "laptop", "spark", "vllm_parser"]
