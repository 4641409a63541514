"""What the kernels' sources export."""

import re

from emulation import KERNELS


def parameters(source: str, name: str) -> list[str]:
    """The names of a C++ function's parameters."""
    declared = re.search(rf"^\w+ {name}\((.*?)\) {{", source, re.MULTILINE | re.DOTALL)
    assert declared, f"{name} is exported and not defined"
    return [parameter.split()[-1] for parameter in declared[1].split(",")]


def exports() -> dict[str, list[str]]:
    """Each exported function's parameters."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(KERNELS.glob("*.cu"))]
    return {
        name: parameters(source, name)
        for source in sources
        for name in re.findall(r"TVM_FFI_DLL_EXPORT_TYPED_FUNC\((\w+),", source)
    }
