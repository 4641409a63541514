"""Fixtures: the reference model and the engines, each started once a session."""

from collections.abc import Iterator

import numpy as np
import pytest
from engine import Engine
from reference_model import Reference
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dgx_vllm.demo import CHECKPOINT
from helpers.checkpoint_reader import read_tensors
from helpers.transcripts import Transcript, transcripts


@pytest.fixture(scope="session")
def tensors() -> dict[str, np.ndarray]:
    return read_tensors(CHECKPOINT / "model.safetensors")


@pytest.fixture(scope="session")
def reference(tensors: dict[str, np.ndarray]) -> Reference:
    return Reference(CHECKPOINT, tensors)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="session")
def tasks(tokenizer: PreTrainedTokenizerBase) -> list[Transcript]:
    return transcripts(tokenizer)


@pytest.fixture(scope="session")
def engine(vllm_environment: None) -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def drafting_engine(vllm_environment: None) -> Iterator[Engine]:
    engine = Engine(drafts=2)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def log_probabilities(engine: Engine, tasks: list[Transcript]) -> list[np.ndarray]:
    """vLLM's, of every task."""
    return [np.array(engine.log_probabilities(task), np.float32) for task in tasks]


@pytest.fixture
def checkpoint_copy(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The checkpoint's tensors, to be damaged."""
    return {name: tensor.copy() for name, tensor in tensors.items()}
