"""For each architecture of the profiles: eight requests at once get what each gets alone, drafts included.

Each tiny checkpoint has the names, the layout and the quantization of the published one (helpers/tiny). An
engine starts for each, on vLLM's CPU backend. With drafts, answers are also those without: vLLM promises that
for greedy decoding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import mamba2
import pytest
import torch
from answers import ROUNDING, Answer, Engine, difference

from helpers.tiny import gemma4, gpt_oss, nemotron_h, qwen3_5, qwen3_5_moe

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("vllm_environment")]


@dataclass(frozen=True)
class Architecture:
    """How its checkpoint is written, what else its engine needs, and whether only CPUs with AMX run it."""

    write: Callable[[Path], Path]
    options: dict[str, Any] = field(default_factory=dict)
    amx: bool = False


@dataclass(frozen=True)
class Draft:
    """How it drafts, and how its checkpoint is written where it has one of its own."""

    method: str
    write: Callable[[Path], Path] | None = None

    def speculative(self, directory: Path) -> dict[str, Any]:
        """vLLM's settings for three drafts; the checkpoint is written into the directory."""
        own = {"model": str(self.write(directory))} if self.write else {}
        return {"method": self.method, "num_speculative_tokens": 3, **own}


ARCHITECTURES = {
    "qwen3_5": Architecture(qwen3_5.write, {"language_model_only": True}),
    "qwen3_5_moe": Architecture(qwen3_5_moe.write, {"language_model_only": True}),
    "gpt_oss": Architecture(gpt_oss.write, amx=True),
    "gemma4": Architecture(gemma4.write, {"limit_mm_per_prompt": {"image": 0, "video": 0}}),
    "nemotron_lightning": Architecture(partial(nemotron_h.write_lightning, experts=False)),
    "nemotron_super": Architecture(partial(nemotron_h.write_super, experts=False)),
}
#: By the architecture that they draft for and their name.
DRAFTS = {
    ("qwen3_5", "mtp"): Draft("mtp"),
    ("qwen3_5_moe", "mtp"): Draft("mtp"),
    ("gpt_oss", "eagle3"): Draft("eagle3", gpt_oss.write_eagle3),
    ("gemma4", "mtp"): Draft("mtp", gemma4.write_assistant),
    ("nemotron_lightning", "mtp"): Draft("mtp"),
    ("nemotron_super", "mtp"): Draft("mtp"),
}


@pytest.fixture
def right_mamba2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mamba2's operators give with drafts what they give on a GPU."""
    from vllm.model_executor.layers.mamba import mamba_mixer2

    for name in ("causal_conv1d_update", "selective_state_update"):
        vllms, right = getattr(mamba_mixer2, name), getattr(mamba2, name)

        def update(*tensors: Any, vllms: Any = vllms, right: Any = right, **options: Any) -> Any:
            return (vllms if options["num_accepted_tokens"] is None else right)(*tensors, **options)

        monkeypatch.setattr(mamba_mixer2, name, update)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of an architecture, written once."""
    written: dict[str, Path] = {}

    def checkpoint(name: str) -> Path:
        if ARCHITECTURES[name].amx and not torch.cpu._is_amx_tile_supported():
            pytest.skip("vLLM's experts for MXFP4 on the CPU need AMX")
        if name not in written:
            written[name] = ARCHITECTURES[name].write(tmp_path_factory.mktemp(name))
        return written[name]

    return checkpoint


@pytest.fixture(scope="module")
def plain(checkpoints: Callable[[str], Path]) -> Callable[[str], tuple[list[Answer], list[Answer]]]:
    """The answers of an architecture without drafts, alone and together, asked for once."""
    known: dict[str, tuple[list[Answer], list[Answer]]] = {}

    def answers(name: str) -> tuple[list[Answer], list[Answer]]:
        if name not in known:
            engine = Engine(checkpoints(name), **ARCHITECTURES[name].options)
            known[name] = engine.alone(), engine.together()
            engine.close()
        return known[name]

    return answers


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_eight_at_once_get_what_each_gets_alone(
    name: str,
    plain: Callable[[str], tuple[list[Answer], list[Answer]]],
    record_property: Callable[[str, object], None],
) -> None:
    alone, together = plain(name)
    # All prompts end alike: only their states tell them apart, and by more than rounding.
    assert min(difference(one, other) for one, other in pairwise(alone)) > ROUNDING
    record_property("together", _compare(alone, together))


@pytest.mark.usefixtures("right_mamba2")
@pytest.mark.parametrize(("name", "draft"), DRAFTS)
def test_drafts_change_no_answer_alone_or_eight_at_once(
    name: str,
    draft: str,
    tmp_path: Path,
    checkpoints: Callable[[str], Path],
    plain: Callable[[str], tuple[list[Answer], list[Answer]]],
    record_property: Callable[[str, object], None],
) -> None:
    expected, _ = plain(name)
    engine = Engine(
        checkpoints(name), DRAFTS[name, draft].speculative(tmp_path), **ARCHITECTURES[name].options
    )
    alone = engine.alone()
    drafted_alone, accepted_alone = engine.acceptance()
    together = engine.together()
    drafted, accepted = engine.acceptance()
    engine.close()
    # Rejected drafts must leave no trace, and accepted ones the right one: both have to occur.
    assert 0 < accepted_alone < drafted_alone
    assert 0 < accepted - accepted_alone < drafted - drafted_alone
    record_property("accepted", f"{accepted} of {drafted}")
    record_property("alone against no drafts", _compare(expected, alone))
    record_property("together against alone", _compare(alone, together))


def _compare(expected: list[Answer], answers: list[Answer]) -> str:
    """Asserts that answers are the same but for rounding. Returns how often they differ."""
    differences = [difference(one, other) for one, other in zip(expected, answers, strict=True)]
    assert max(differences) <= ROUNDING, differences
    parted = sum(one.tokens != other.tokens for one, other in zip(expected, answers, strict=True))
    return f"{parted} of {len(answers)} part at a near tie; log-probabilities within {max(differences):.3f}"


@pytest.mark.parametrize("write", [nemotron_h.write_lightning, nemotron_h.write_super])
def test_experts_without_a_gate_are_refused_on_the_cpu(write: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="is_act_and_mul=False is supported only for CUDA"):
        Engine(write(tmp_path))
