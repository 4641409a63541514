"""Checkpoints whose layers are stored each in a precision of its own, by headers alone."""

from collections.abc import Callable
from typing import Any

from dgx_vllm.plan import families

Header = tuple[str, tuple[int, ...]]


def matrix(module: str, shape: tuple[int, ...], precision: str | None) -> dict[str, Header]:
    """One matrix as ModelOpt stores it, None for BF16."""
    *rows, columns = shape
    if precision == "NVFP4":
        return {
            f"{module}.weight": ("U8", (*rows, columns // 2)),
            f"{module}.weight_scale": ("F8_E4M3", (*rows, columns // 16)),
            f"{module}.weight_scale_2": ("F32", ()),
        }
    if precision == "FP8":
        return {f"{module}.weight": ("F8_E4M3", shape), f"{module}.weight_scale": ("F32", ())}
    if precision == "MXFP8":
        scale = ("U8", (*rows, columns // 32))
        return {f"{module}.weight": ("F8_E4M3", shape), f"{module}.weight_scale": scale}
    return {f"{module}.weight": ("BF16", shape)}


def tensors(config: dict[str, Any], stored: Callable[[str], str | None]) -> dict[str, Header]:
    """Every tensor of a config's model; `stored` says how each linear module is stored."""
    headers: dict[str, Header] = {}
    for tensor in families.read("model", config).tensors:
        for expert in range(tensor.copies):
            name = tensor.name.replace(".experts.0.", f".experts.{expert}.")
            module = name.removesuffix(".weight")
            if tensor.linear and name.endswith(".weight"):
                headers |= matrix(module, tensor.shape, stored(module))
            else:
                headers[name] = ("BF16", tensor.shape)
    return headers
