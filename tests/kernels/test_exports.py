"""Each function that the kernels export is documented, run on a small case and tried with wrong arguments.

The sources are the only list of them: what is forgotten for a new one fails here.
"""

import re
from pathlib import Path

import pytest
from emulation import KERNELS

#: What starts no kernel, or one that only tests call.
NOT_SANITIZED = {"moe_decode_workspace", "convert_e2m1"}
#: What takes sizes and checks nothing.
NOT_REFUSING = {"moe_decode_workspace"}


def parameters(source: str, name: str) -> list[str]:
    """The names of a C++ function's parameters."""
    declared = re.search(rf"^\w+ {name}\((.*?)\) {{", source, re.MULTILINE | re.DOTALL)
    assert declared, f"{name} is exported and not defined"
    return [parameter.split()[-1] for parameter in declared[1].split(",")]


def exports() -> dict[str, list[str]]:
    """Each exported function's parameters."""
    sources = [path.read_text() for path in sorted(KERNELS.glob("*.cu"))]
    return {
        name: parameters(source, name)
        for source in sources
        for name in re.findall(r"TVM_FFI_DLL_EXPORT_TYPED_FUNC\((\w+),", source)
    }


each_export = pytest.mark.parametrize("name", exports())


def test_the_sources_export_functions() -> None:
    assert {"moe_decode", "linear_decode_fp8", "compress_24"} < set(exports())


@each_export
def test_the_documentation_has_the_signature_of_the_source(name: str) -> None:
    text = " ".join((KERNELS / "README.md").read_text().split())
    assert f"{name}({', '.join(exports()[name])})" in text


@each_export
def test_the_sanitizer_gets_a_small_case(name: str) -> None:
    called = re.search(rf"\b{name}\b", (KERNELS / "bench/small.py").read_text()) is not None
    assert called == (name not in NOT_SANITIZED)


@each_export
def test_wrong_arguments_are_tried(name: str) -> None:
    tried = f'"{name}"' in (Path(__file__).parent / "test_kernel_refusals.py").read_text()
    assert tried == (name not in NOT_REFUSING)
