"""What the compiled kernels hold for GB10. DGX_VLLM_KERNELS_SM121A names the library; cuobjdump and nvdisasm must be on PATH."""  # noqa: E501

import os
import re
import shutil
import subprocess

import pytest

LIBRARY = os.environ.get("DGX_VLLM_KERNELS_SM121A")
if not LIBRARY or not shutil.which("cuobjdump") or not shutil.which("nvdisasm"):
    pytest.skip("needs DGX_VLLM_KERNELS_SM121A, cuobjdump and nvdisasm", allow_module_level=True)


def cuobjdump(*arguments: str) -> str:
    return subprocess.run(
        ["cuobjdump", *arguments, LIBRARY], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def functions() -> dict[str, str]:
    """SASS by kernel."""
    parts = re.split(r"Function : (\S+)", cuobjdump("--dump-sass"))[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def named(functions: dict[str, str], *words: str) -> list[str]:
    found = [sass for name, sass in functions.items() if all(word in name for word in words)]
    assert found, f"no kernel named {words}"
    return found


def test_only_the_architecture_specific_target() -> None:
    targets = set(re.findall(r"sm_\w+?(?=\.cubin)", cuobjdump("--list-elf")))
    assert targets == {"sm_121a"}
    assert not cuobjdump("--list-ptx").strip().startswith("PTX")


def test_conversions_use_the_instruction(functions: dict[str, str]) -> None:
    for sass in named(functions, "e2m1", "quantize"):
        assert sass.count("F2FP.SATFINITE.E2M1.F32.PACK_AB_MERGE_C") == 8
    (hardware,) = named(functions, "convertILb0")
    (software,) = named(functions, "convertILb1")
    assert "F2FP.SATFINITE.E2M1" in hardware
    assert "E2M1" not in software


@pytest.mark.parametrize("kernel", [("moe_gate_up",), ("moe_down",), ("linear", "multiply")], ids=" ".join)
def test_decode_kernels(functions: dict[str, str], kernel: tuple[str, ...]) -> None:
    for sass in named(functions, *kernel):
        assert "HMMA.16816.F32.BF16" in sass
        assert "LDGSTS.E.BYPASS.LTC128B.128" in sass
        assert not re.search(r"\b(LDL|STL)\b", sass), "spills to local memory"
        assert not re.search(r"\b(ATOM|ATOMG|RED|REDG)\b", sass), "an atomic may reach the result"
