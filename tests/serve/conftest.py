"""The real vLLM with the built-in demo model, started once for the tests that only ask it."""

import importlib.metadata
import os
from collections.abc import Iterator

import openai
import pytest
from serving import Server, serving


@pytest.fixture(scope="session")
def serve_environment(
    session_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Where the package is not installed but on the path, vLLM must still find its plugin."""
    try:
        importlib.metadata.version("dgx-vllm")
        return session_environment
    except importlib.metadata.PackageNotFoundError:
        site = tmp_path_factory.mktemp("site")
        metadata = site / "dgx_vllm-0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dgx-vllm\nVersion: 0\n")
        (metadata / "entry_points.txt").write_text(
            "[vllm.general_plugins]\ndgx_vllm = dgx_vllm.plugin:register\n"
        )
        path = os.pathsep.join([str(site), session_environment["PYTHONPATH"]])
        return {**session_environment, "PYTHONPATH": path}


@pytest.fixture(scope="session")
def server(serve_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(serve_environment, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> openai.OpenAI:
    return server.client
