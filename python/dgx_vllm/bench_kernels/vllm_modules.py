"""vLLM's extension modules, loaded without vLLM: they need PyTorch alone."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import torch  # noqa: F401 - whose libraries they are linked to

from dgx_vllm.bench_kernels.implementation import Unavailable

_NAMES = ("_C_stable_libtorch", "_moe_C_stable_libtorch")


def load() -> None:
    """Registers torch.ops._C and torch.ops._moe_C, from where Python finds vllm.

    Raises:
        Unavailable: vLLM is not there, or is a build without them.
    """
    spec = importlib.util.find_spec("vllm")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise Unavailable("vLLM is not installed")
    for name in _NAMES:
        if f"vllm.{name}" not in sys.modules:
            _load(name, Path(places[0]) / f"{name}.abi3.so")


def _load(name: str, path: Path) -> None:
    if not path.is_file():
        raise Unavailable(f"this vLLM has no {path.name}")
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec
    try:
        # As vLLM names it, since an operator can be registered once.
        sys.modules[f"vllm.{name}"] = module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except ImportError as error:
        sys.modules.pop(f"vllm.{name}", None)
        raise Unavailable(f"{path.name} does not load: {error}") from error
