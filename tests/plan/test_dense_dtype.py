"""What --dense-dtype changes in the plan and in the command."""

from pathlib import Path

import pytest
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.errors import UserError
from dgx_vllm.launch import command
from dgx_vllm.launch.command import Request
from dgx_vllm.launch.settings import Source
from dgx_vllm.machine import Machine, Vllm
from dgx_vllm.plan import outlook
from dgx_vllm.plan.outlook import Wish

MACHINE = Machine(Vllm("0.32.0", "cpu", Path("/env/vllm"), has_command=True), (), 32 * 2**30, 8, "python")
KNOWN: frozenset[str] = frozenset()


def test_the_projections_bytes_are_halved() -> None:
    model = understood(QWEN3_NEXT_NVFP4)
    bf16, fp8 = (
        outlook.of(model, None, Wish(10**12, "given", dense_dtype=dtype)) for dtype in ("bf16", "fp8")
    )
    # (1812 + 453) MB, less a float32 scale for each of 36 * 12288 + 12 * 9216 outputs.
    halved = 36 * 12288 * 2048 + 12 * 9216 * 2048
    scales = 4 * (36 * 12288 + 12 * 9216)
    assert bf16.steps[0].bytes - fp8.steps[0].bytes == halved - scales
    assert {w.precision for w in fp8.model.weights if w.part.value == "lm_head"} == {"BF16"}


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_nothing_is_quantized_unasked(dtype: str | None) -> None:
    launch = command.plan(Request({}, {}, dense_dtype=dtype), MACHINE, KNOWN)  # type: ignore[arg-type]
    assert "quantization-config" not in launch.settings


def test_fp8_is_vllms_own_quantization_config() -> None:
    launch = command.plan(Request({}, {}, dense_dtype="fp8"), MACHINE, KNOWN)
    setting = launch.settings["quantization-config"]
    assert setting.source is Source.FLAG
    assert setting.origin == "--dense-dtype fp8"
    assert '"fp8_per_channel"' in setting.text
    assert "--quantization-config" in launch.argv


def test_two_who_say_what_is_quantized() -> None:
    request = Request({"quantization-config": '{"linear": "mxfp8"}'}, {}, dense_dtype="fp8")
    with pytest.raises(UserError, match=r"--dense-dtype fp8 and --quantization-config both say"):
        command.plan(request, MACHINE, KNOWN)
