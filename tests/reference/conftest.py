"""Fixtures: the reference model and the engines, each started once a session."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
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
def vllm_environment(session_environment: dict[str, str]) -> Iterator[None]:
    """The session's caches, loopback only, and the engine in this process (fewer start-ups)."""
    settings = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    # One thread computes so small a model fastest, and spinning threads stall on a loaded machine. The CPU
    # worker replaces this function for good, so it is put back.
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**session_environment, **settings}.items():
            patch.setenv(name, value)
        yield
    torch.set_num_threads = set_num_threads
    torch.set_num_threads(threads)


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
