"""Which backends vLLM selects for NVFP4 linear layers, NVFP4 experts and attention, and why.

Asking vLLM means importing it and torch, for many seconds; `selection` does that on request. What is said
without asking is vLLM 0.32.0's own order for compute capability 12.x, held against vLLM by
tests/doctor/test_selection.py:

- linear: `_POSSIBLE_NVFP4_KERNELS` in vllm/model_executor/kernels/linear/__init__.py, the first that
  is_supported;
- experts: `select_nvfp4_moe_backend` in vllm/model_executor/layers/fused_moe/oracle/nvfp4.py;
- attention: `_get_backend_priorities` in vllm/platforms/cuda.py, the first whose validate_configuration
  passes.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.nvml import Gpu
from dgx_vllm.doctor.place import Place
from dgx_vllm.host import driver, meminfo
from dgx_vllm.host.compute_capability import GB10, dotted
from dgx_vllm.host.machine import GIB
from dgx_vllm.plan.overheads import COMPILE_JOB

_AREA = "backends"
_SUBJECTS = {
    "linear": "NVFP4 linear",
    "moe": "NVFP4 experts",
    "attention": "attention",
    "attention-fp8": "attention, FP8 KV",
}
_ASK = "dgx-vllm doctor --ask-vllm"
_ASK_SECONDS = 300
_SELECTION = "dgx-vllm exec python -m dgx_vllm.doctor.selection"


@dataclass(frozen=True)
class Choice:
    """What is selected for one kind of layer.

    Args:
        name: the backend, as vLLM's own enumerations and classes name it.
        why: the reason, in a few words.
        flag: vLLM's flag that selects another.
    """

    name: str
    why: str
    flag: str


def findings(place: Place, gpu: Gpu | str, ask: bool = False) -> list[Finding]:
    """The selections, and whether FlashInfer can compile what they need.

    Args:
        place: where to look.
        gpu: what NVML says.
        ask: whether to have vLLM say it, in a process of its own.
    """
    if place.vllm is None:
        return []
    if place.vllm.platform == "cpu":
        plugin = "this project's plugin, W4A16 (the CPU build has none)"
        return [
            Finding(_AREA, "NVFP4 linear", Status.OK, f"CpuNvFp4LinearKernel: {plugin}"),
            Finding(_AREA, "NVFP4 experts", Status.OK, "dequantized, vLLM's CPU experts: the same plugin"),
            Finding(_AREA, "attention", Status.OK, "CPU_ATTN: the CPU build's only one"),
        ]
    if ask:
        return [*_asked(place), *_flashinfer(place, gpu)]
    capability = gpu.capability if isinstance(gpu, Gpu) and gpu.capability else GB10
    if capability[0] != GB10[0]:
        return [
            Finding(_AREA, "selection", Status.UNKNOWN, f"not known for {dotted(capability)}", _ASK),
            *_flashinfer(place, gpu),
        ]
    chosen = select(obstacle(place.environ), installed("flashinfer"))
    return [
        *(
            Finding(
                _AREA,
                _SUBJECTS[kind],
                Status.OK,
                f"{choice.name}: {choice.why}",
                data={"backend": choice.name, "flag": choice.flag, "asked": False},
            )
            for kind, choice in chosen.items()
        ),
        *_flashinfer(place, gpu),
    ]


def select(flashinfer: str | None, package: bool) -> dict[str, Choice]:
    """What vLLM 0.32.0 selects on compute capability 12.x where no flag says otherwise.

    Args:
        flashinfer: why vLLM takes FlashInfer for unusable, None if it does not.
        package: whether FlashInfer is installed at all; attention looks at nothing else.
    """
    if flashinfer is None:
        linear = Choice("FlashInferCutlassNvFp4LinearKernel", "first in order; compiles", "--linear-backend")
        moe = Choice("FLASHINFER_CUTLASS", "first in order for 12.x; compiles", "--moe-backend")
    else:
        linear = Choice("CutlassNvFp4LinearKernel", f"no FlashInfer: {flashinfer}", "--linear-backend")
        moe = Choice("VLLM_CUTLASS", f"no FlashInfer: {flashinfer}", "--moe-backend")
    eight_bit = (
        Choice("FLASHINFER", "FlashAttention 2 reads no FP8 KV", "--attention-backend")
        if package
        else Choice("TRITON_ATTN", "FlashInfer is not installed", "--attention-backend")
    )
    return {
        "linear": linear,
        "moe": moe,
        "attention": Choice("FLASH_ATTN", "first in order from 8.0 on", "--attention-backend"),
        "attention-fp8": eight_bit,
    }


def obstacle(environ: Mapping[str, str]) -> str | None:
    """Why vLLM would not use FlashInfer (vllm/utils/flashinfer.py, `has_flashinfer`), None if it would."""
    if not installed("flashinfer"):
        return "not installed"
    if environ.get("VLLM_HAS_FLASHINFER_CUBIN", "0") not in ("", "0") or installed("flashinfer_cubin"):
        return None
    if nvcc(environ) is None:
        return "no nvcc"
    return None if shutil.which("ninja", path=environ.get("PATH")) else "no ninja"


def nvcc(environ: Mapping[str, str]) -> str | None:
    """The nvcc that FlashInfer would run: CUDA_HOME's, CUDA_PATH's, PATH's or /usr/local/cuda's."""
    home = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    if not home:
        compiler = shutil.which("nvcc", path=environ.get("PATH"))
        home = str(Path(compiler).parent.parent) if compiler else "/usr/local/cuda"
    return shutil.which(os.path.join(home, "bin", "nvcc"))


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def _flashinfer(place: Place, gpu: Gpu | str) -> list[Finding]:
    if place.vllm is None or place.vllm.platform == "cpu" or not installed("flashinfer"):
        return []
    compiler, why = nvcc(place.environ), obstacle(place.environ)
    jobs = place.environ.get("MAX_JOBS")
    data = {"nvcc": compiler, "max_jobs": jobs}
    subject = "FlashInfer"
    if why is not None:
        value = f"cannot compile its kernels: {why}"
        remedy = "set CUDA_HOME to CUDA 13.0, or serve with --attention-backend TRITON_ATTN"
        return [Finding(_AREA, subject, Status.WARN, value, remedy, data)]
    bounded = isinstance(gpu, Gpu) and gpu.unified
    if bounded and not jobs:
        value = f"compiles with {compiler}, serve sets how many jobs fit next to the model"
        return [Finding(_AREA, subject, Status.OK, value, data=data)]
    cores = len(os.sched_getaffinity(0))
    asked = f"{jobs} jobs (MAX_JOBS)" if jobs else f"one job a core ({cores})"
    count = int(jobs) if jobs and jobs.isdecimal() else cores
    if count * COMPILE_JOB > _available(place):
        value = f"compiles with {compiler}, {asked}, up to {COMPILE_JOB // GIB} GiB each"
        return [Finding(_AREA, subject, Status.WARN, value, _fewer_jobs(place, bounded), data)]
    return [Finding(_AREA, subject, Status.OK, f"compiles with {compiler}, {asked}", data=data)]


def _fewer_jobs(place: Place, bounded: bool) -> str:
    if bounded:
        return "unset MAX_JOBS: serve sets as many as fit next to the model (flashinfer#3634)"
    # Half of what is free, since a first start compiles while the model is in memory.
    return f"export MAX_JOBS={max(1, _available(place) // (2 * COMPILE_JOB))} (flashinfer#3634)"


def _available(place: Place) -> int:
    """The host's memory that is free or can be freed, in bytes."""
    return meminfo.parse(place.read("/proc/meminfo") or "").get("MemAvailable", 0)


def _asked(place: Place) -> list[Finding]:
    """What vLLM itself answers."""
    environ = dict(place.environ)
    if place.driver:
        driver.link(place.driver, environ)
        environ |= driver.variables(place.driver, environ)
    command = [sys.executable, "-P", "-m", "dgx_vllm.doctor.selection"]
    try:
        result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_ASK_SECONDS)
        answers: dict[str, dict[str, Any]] = json.loads(result.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return [_silent(f"vLLM did not answer within {_ASK_SECONDS} s")]
    except (IndexError, json.JSONDecodeError):
        last = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        return [_silent(f"vLLM could not be asked: {last}")]
    return [_answer(kind, answer) for kind, answer in answers.items()]


def _answer(kind: str, answer: Mapping[str, Any]) -> Finding:
    subject, data = _SUBJECTS[kind], {**answer, "asked": True}
    if "error" in answer:
        return Finding(
            _AREA, subject, Status.WARN, f"none: {answer['error']}", "dgx-vllm serve --dry-run MODEL", data
        )
    passed = ", ".join(answer["passed_over"])
    why = f"vLLM's answer, after {passed}" if passed else "vLLM's answer, first in order"
    return Finding(_AREA, subject, Status.OK, f"{answer['backend']}: {why}", data=data)


def _silent(value: str) -> Finding:
    return Finding(_AREA, "selection", Status.UNKNOWN, value, f"{_SELECTION} shows the log")
