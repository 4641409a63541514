"""Each function that the kernels export is documented, run on a small case and tried with wrong arguments.

The sources are the only list of them: what is forgotten for a new one fails here.
"""

import re
from pathlib import Path

import pytest
from emulation import KERNELS
from exported import exports

#: What only tests call.
NOT_SANITIZED = {"convert_e2m1"}
#: What takes sizes and checks nothing.
NOT_REFUSING = {"moe_decode_workspace"}


each_export = pytest.mark.parametrize("name", exports())


def test_the_sources_export_functions() -> None:
    assert {"moe_decode", "linear_decode_fp8", "compress_24"} < set(exports())


@each_export
def test_the_documentation_has_the_signature_of_the_source(name: str) -> None:
    text = " ".join((KERNELS / "README.md").read_text().split())
    assert f"{name}({', '.join(exports()[name])})" in text


@each_export
def test_the_sanitizer_gets_a_small_case(name: str) -> None:
    called = re.search(rf"\babi\.{name}\(", (KERNELS / "bench/small.py").read_text()) is not None
    assert called == (name not in NOT_SANITIZED)


@each_export
def test_wrong_arguments_are_tried(name: str) -> None:
    refusals = (Path(__file__).parent / "test_kernel_refusals.py").read_text()
    tried = re.search(rf"\babi\.{name}\(", refusals) is not None
    assert tried == (name not in NOT_REFUSING)
