"""Which files come of a repository that has two formats: those that vLLM will be told to read."""

import pytest
from downloading import Start, ended

from helpers.fakehub import MODEL, Hub


@pytest.fixture
def both(hub: Hub) -> Hub:
    """The repository with Mistral's own format next to the hub's, as Mistral AI publishes them."""
    weights = hub.files["model.safetensors"]
    hub.files |= {"params.json": b"{}", "tekken.json": b"{}", "consolidated.safetensors": weights[:-1] + b"m"}
    return hub


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ([], {"consolidated.safetensors"}),
        (["--load-format", "mistral", "--config-format", "mistral"], {"consolidated.safetensors"}),
        (["--load-format", "safetensors", "--config-format", "hf"], {"model.safetensors"}),
        (["--load-format", "dummy"], set()),
    ],
)
def test_the_weights_that_vllm_will_read_are_fetched(
    start: Start, both: Hub, words: list[str], weights: set[str]
) -> None:
    outcome = ended(start(MODEL, *words))
    assert outcome.status == 0, outcome.err
    asked = {request.name for request in both.requests}
    assert {name for name in asked if name.endswith(".safetensors")} == weights
    again = ended(start("--if-missing", *words, MODEL))
    assert again.status == 0
    assert "complete according to its index" in again.out
