"""The extension modules: for which GPUs their code is."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import dgx_vllm
from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.nvml import Gpu
from dgx_vllm.doctor.place import Place
from dgx_vllm.host.compute_capability import GB10, dotted
from dgx_vllm.kernels.fatbin import Architectures, architectures

_AREA = "kernels"

# What a served model always calls, and what to do where it has no code for the GPU.
_MODULES = {
    "_C_stable_libtorch": "NVFP4 quantization and GEMM",
    "_moe_C_stable_libtorch": "Marlin and MoE",
    "vllm_flash_attn/_vllm_fa2_C": "FlashAttention 2",
}
_REMEDY = {"vllm_flash_attn/_vllm_fa2_C": "serve with --attention-backend flashinfer, as the profiles do"}
_REBUILD = "install the vLLM that this project pins: nix run .#serve"


def findings(place: Place, gpu: Gpu | str) -> list[Finding]:
    """For each module what of its code the GPU runs; on a machine without a GPU, what a GB10 would."""
    if place.vllm is None:
        return []
    if place.vllm.platform == "cpu":
        return [Finding(_AREA, "extension modules", Status.OK, "the CPU build holds no GPU code")]
    capability = gpu.capability if isinstance(gpu, Gpu) and gpu.capability else GB10
    modules = {name: place.vllm.package / f"{name}.abi3.so" for name in _MODULES}
    package = Path(dgx_vllm.__file__).parent
    modules |= {path.name.split(".")[0]: path for path in sorted(package.rglob("*.so"))}
    return [_module(name, path, capability) for name, path in modules.items()]


def runnable(code: Architectures, capability: tuple[int, int]) -> tuple[dict[str, int], list[str]]:
    """What of a module's code a GPU runs.

    Args:
        code: the module's code.
        capability: the GPU's.

    Returns:
        The cubins by architecture, the best first, and the PTX that the driver could compile. The rules are
        the CUDA programming guide's (section Compute Capabilities): machine code runs on the same major
        capability from its minor one on, `a` code on exactly its capability, `f` code on its family; plain
        PTX runs on every later one, PTX with a suffix where code with it would. A question mark counts as
        plain.
    """
    major, minor = capability

    def same(number: int, suffix: str) -> bool:
        within = number // 10 == major and number % 10 <= minor
        return within and (suffix != "a" or number % 10 == minor)

    cubins = {arch: count for arch, count in code.cubins.items() if same(*_parsed(arch.removeprefix("sm_")))}
    ptx = []
    for name in code.ptx:
        number, suffix = _parsed(name.removeprefix("compute_"))
        if same(number, suffix) if suffix in ("a", "f") else number <= major * 10 + minor:
            ptx.append(name)
    return dict(sorted(cubins.items(), key=lambda item: _rank(item[0]), reverse=True)), sorted(ptx)


def _parsed(arch: str) -> tuple[int, str]:
    number = arch.rstrip("af?")
    return int(number), arch.removeprefix(number)


def _rank(arch: str) -> tuple[bool, int, str]:
    """Code for a family or one chip has the FP4 instructions, plain code has not (PTX ISA, cvt and mma)."""
    return arch[-1] in "af", int(arch.removeprefix("sm_").rstrip("af?")), arch


def _module(name: str, path: Path, capability: tuple[int, int]) -> Finding:
    short = Path(name).name.removesuffix("_stable_libtorch")
    try:
        code = architectures(path)
    except (OSError, ValueError) as error:
        return Finding(_AREA, short, Status.FAIL, f"cannot be read: {error}", _REBUILD)
    cubins, ptx = runnable(code, capability)
    gpu = dotted(capability)
    what = f" ({_MODULES[name]})" if name in _MODULES else ""
    data = {"path": str(path), "cubins": dict(code.cubins), "ptx": dict(code.ptx), "runs": cubins}
    if cubins:
        return Finding(_AREA, short, Status.OK, f"{_listed(cubins)}{what}", data=data)
    remedy = _REMEDY.get(name, _REBUILD)
    if ptx:
        value = f"no code for {gpu}, the driver compiles {ptx[-1]} PTX{what}"
        return Finding(_AREA, short, Status.WARN, value, remedy, data)
    there = _listed(Counter(code.cubins)) or "no GPU code"
    return Finding(_AREA, short, Status.FAIL, f"no code for {gpu}, only {there}{what}", remedy, data)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {arch}" for arch, count in counts.items())
