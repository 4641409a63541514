"""Token log-probabilities against transformers in float32 on the dequantized weights.

The comparison is shown to have teeth: each of three ways to misread NVFP4 makes it fail.
"""

from collections.abc import Callable

import numpy as np
import pytest
from reference_model import Reference

from dgx_vllm.demo import CHECKPOINT
from helpers.transcripts import Transcript

#: Nats. vLLM computes in bfloat16 (8 significant bits); a misread weight is orders of magnitude off.
MEAN_BOUND = 0.03
LARGEST_BOUND = 2.0

Tensors = dict[str, np.ndarray]


def difference(reference: Reference, tasks: list[Transcript], measured: list[np.ndarray]) -> np.ndarray:
    """|Δ| of every token of every task, in nats."""
    wanted = [reference.log_probabilities([*task.prompt, *task.answer]) for task in tasks]
    return np.abs(np.concatenate(wanted) - np.concatenate(measured))


def of_answers(tasks: list[Transcript]) -> np.ndarray:
    """Which of `difference`'s tokens the model was trained to say; the rest are the user's."""
    return np.concatenate([np.arange(1, len(t.prompt) + len(t.answer)) >= len(t.prompt) for t in tasks])


def figures(delta: np.ndarray) -> str:
    """What is reported of a comparison."""
    mean, largest = f"mean {delta.mean():.3g} (bound {MEAN_BOUND})", f"largest {delta.max():.3g}"
    return f"{mean}, {largest} (bound {LARGEST_BOUND}) nats over {delta.size} tokens"


def agrees(delta: np.ndarray) -> bool:
    """Whether the comparison holds; NaN never does."""
    return bool(delta.mean() <= MEAN_BOUND and delta.max() <= LARGEST_BOUND)


@pytest.mark.engine
def test_vllm_agrees_with_transformers(
    reference: Reference,
    tasks: list[Transcript],
    log_probabilities: list[np.ndarray],
    record_property: Callable[[str, object], None],
) -> None:
    delta = difference(reference, tasks, log_probabilities)
    record_property("|Δ log p|", figures(delta))
    record_property("|Δ log p| of answers alone", figures(delta[of_answers(tasks)]))
    assert agrees(delta)


def swapped_nibbles(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype == np.uint8:
            tensors[name] = (tensor >> 4) | (tensor << 4)


def inverted_global_scale(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".weight_scale_2"):
            tensors[name] = 1 / tensor


def transposed_block_scales(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".weight_scale"):
            tensors[name] = tensor.T.reshape(tensor.shape)


def skipped_block_scales(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".weight_scale"):
            tensors[name] = np.full_like(tensor, tensor.astype(np.float32).mean())


@pytest.mark.engine
@pytest.mark.parametrize(
    "misread", [swapped_nibbles, inverted_global_scale, transposed_block_scales, skipped_block_scales]
)
def test_a_misread_checkpoint_is_seen(
    misread: Callable[[Tensors], None],
    checkpoint_copy: Tensors,
    tasks: list[Transcript],
    log_probabilities: list[np.ndarray],
    record_property: Callable[[str, object], None],
) -> None:
    misread(checkpoint_copy)
    delta = difference(Reference(CHECKPOINT, checkpoint_copy), tasks, log_probabilities)
    record_property("|Δ log p|", figures(delta))
    assert not agrees(delta)
