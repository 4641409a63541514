"""Python's calls name the arguments of the library's functions as C++ does, in the same order."""

import inspect
from typing import Any

import pytest
from exported import exports

from dgx_vllm.kernels import abi
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert

#: Stands for any argument.
ANY: Any = object()

WEIGHTS = ExpertWeights(*[ANY] * 6)
TILES = ExpertTiles(*[ANY] * 4)
ROUTING = Routing(ANY, ANY, ANY)


def calls() -> dict[str, abi.Call]:
    """A call by each function of `abi`."""
    functions = {
        name: function
        for name, function in vars(abi).items()
        if inspect.isfunction(function) and not name.startswith("_") and function.__module__ == abi.__name__
    }
    groups = {"moe_decode": WEIGHTS, "moe_decode_24": TILES}
    return {name: function(**arguments(function, groups.get(name))) for name, function in functions.items()}


def arguments(function: Any, experts: Any) -> dict[str, Any]:
    groups = {"routed": experts, "routing": ROUTING, "shared": SharedExpert(experts, ANY)}
    return {name: groups.get(name, ANY) for name in inspect.signature(function).parameters}


def test_each_function_of_the_library_has_a_call() -> None:
    assert sorted(calls()) == sorted(exports())


@pytest.mark.parametrize("function", sorted(exports()))
def test_a_call_has_the_parameters_of_its_function_in_order(function: str) -> None:
    call = calls()[function]
    assert call.function == function
    assert list(call.arguments) == exports()[function]


@pytest.mark.parametrize("experts", [WEIGHTS, TILES], ids=["moe_decode", "moe_decode_24"])
def test_without_a_shared_expert_its_arguments_are_none(experts: ExpertWeights | ExpertTiles) -> None:
    function = abi.moe_decode if experts is WEIGHTS else abi.moe_decode_24
    with_shared = function(ANY, ANY, experts, ROUTING, SharedExpert(experts, ANY), ANY, "silu").arguments
    without = function(ANY, ANY, experts, ROUTING, None, ANY, "silu").arguments
    assert list(without) == list(with_shared)
    names = [name for name, value in without.items() if value is None]
    assert names == [name for name in with_shared if name.startswith("shared_")]


def test_a_call_passes_its_arguments_by_position() -> None:
    class Library:
        def convert_e2m1(self, *positional: Any) -> tuple[Any, ...]:
            return positional

    codes, x = object(), object()
    assert abi.convert_e2m1(codes, x, software=True)(Library()) == (codes, x, True)
