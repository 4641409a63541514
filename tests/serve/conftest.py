"""The real vLLM with the built-in demo model, started once for the tests that only ask it."""

from collections.abc import Iterator

import openai
import pytest
from serving import Server, serving


@pytest.fixture(scope="session")
def server(session_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(session_environment, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> openai.OpenAI:
    return server.client
