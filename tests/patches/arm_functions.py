"""Functions of a compiled extension for AArch64, run by unicorn: where a dispatcher goes, with no GPU.

Nothing but the extension is loaded. What it asks of torch's stable C interface and of the CUDA runtime is
answered here, for tensors that have a shape and no content; a call to anything else ends the run.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from pathlib import Path

import unicorn
from elftools.elf.elffile import ELFFile
from unicorn import arm64_const as registers

PAGE = 0x10000
# Far above any extension: a return instruction for each import, a stack, the arguments, the caller.
IMPORTS, STACK, ARGUMENTS, CALLER = (part << 40 for part in range(1, 5))
ROOM = 16 * PAGE
RET = bytes.fromhex("c0035fd6")
ABS64, GLOB_DAT, JUMP_SLOT, RELATIVE = 257, 1025, 1026, 1027  # R_AARCH64_*

CUDA_DEVICE_TYPE = 1
ABI_VERSION = 2 << 56 | 13 << 48  # of torch 2.13
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # cudaDeviceAttr


@dataclass(frozen=True)
class Tensor:
    """A tensor's shape and type (as torch's interface names it); contiguous where no strides are given."""

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] = ()

    @property
    def contiguous_strides(self) -> tuple[int, ...]:
        return tuple(accumulate(self.shape[:0:-1], mul, initial=1))[::-1]


class Extension:
    """An extension in the memory of an emulated core, beside a GPU of the compute capability `capability`."""

    capability: tuple[int, int]

    def __init__(self, library: Path, runtime: int = 13000) -> None:
        self.runtime = runtime
        self.core = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.core.reg_write(registers.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # floating point is not trapped
        for start in (STACK, ARGUMENTS, CALLER):
            self.core.mem_map(start, ROOM)
        with library.open("rb") as file:
            elf = ELFFile(file)
            assert elf["e_machine"] == "EM_AARCH64"
            segments = list(elf.iter_segments("PT_LOAD"))
            end = max(segment["p_vaddr"] + segment["p_memsz"] for segment in segments)
            self.core.mem_map(0, -(-end // PAGE) * PAGE)
            for segment in segments:
                self.core.mem_write(segment["p_vaddr"], segment.data())
            self.functions = {
                symbol.name: symbol["st_value"]
                for symbol in elf.get_section_by_name(".symtab").iter_symbols()
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
            }
            self.imports: dict[str, int] = {}
            self._relocate(elf)
        self.core.mem_map(IMPORTS, ROOM)
        self.core.mem_write(IMPORTS, RET * len(self.imports))
        self.core.hook_add(unicorn.UC_HOOK_CODE, self._at_instruction)
        self._answers = {
            self.imports[name]: answer for name, answer in self._interface().items() if name in self.imports
        }

    def _relocate(self, elf: ELFFile) -> None:
        """The extension lies at 0, so only pointers to what is imported differ from what the file holds."""
        dynamic = elf.get_section_by_name(".dynsym")
        for section in (".rela.dyn", ".rela.plt"):
            for place, info, addend in struct.iter_unpack("<QQq", elf.get_section_by_name(section).data()):
                kind, value = info & 0xFFFFFFFF, addend
                if kind in (ABS64, GLOB_DAT, JUMP_SLOT):
                    symbol = dynamic.get_symbol(info >> 32)
                    value += symbol["st_value"]
                    if symbol["st_shndx"] == "SHN_UNDEF":
                        value = self.imports.setdefault(symbol.name, IMPORTS + len(RET) * len(self.imports))
                elif kind != RELATIVE:
                    continue
                self._write(place, value)

    def _write(self, address: int, value: int, size: int = 8) -> int:
        """Returns 0, which is what both interfaces answer when all is well."""
        self.core.mem_write(address, value.to_bytes(size, "little", signed=value < 0))
        return 0

    def _tensor(self, handle: int) -> Tensor:
        return self._tensors[handle - 1]

    def _interface(self) -> dict[str, Callable[..., int | None]]:
        """What the dispatchers ask: each answer gets the argument registers, and gives what goes into x0."""

        def attribute(out: int, which: int, *_: int) -> int:
            values = dict(
                zip((COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR), self.capability, strict=True)
            )
            return self._write(out, values[which & 0xFFFFFFFF], 4)

        def stride(tensor: Tensor, dimension: int) -> int:
            return (tensor.strides or tensor.contiguous_strides)[dimension]

        def contiguous(tensor: Tensor) -> bool:
            return tensor.strides in ((), tensor.contiguous_strides)

        def numel(tensor: Tensor) -> int:
            return list(accumulate(tensor.shape, mul, initial=1))[-1]

        tensor = self._tensor
        # The codes of types are the library's own affair: it asks for each by its name.
        named = (re.fullmatch(r"(?:aoti_)?torch_dtype_(\w+)", imported) for imported in self.imports)
        codes = {match[1]: (match[0], code) for code, match in enumerate(filter(None, named))}
        types = {function: lambda *_, code=code: code for function, code in codes.values()}
        return types | {
            "aoti_torch_abi_version": lambda *_: ABI_VERSION,
            "aoti_torch_get_dtype": lambda t, out, *_: self._write(out, codes[tensor(t).dtype][1], 4),
            "aoti_torch_get_dim": lambda t, out, *_: self._write(out, len(tensor(t).shape)),
            "aoti_torch_get_size": lambda t, d, out, *_: self._write(out, tensor(t).shape[d]),
            "aoti_torch_get_stride": lambda t, d, out, *_: self._write(out, stride(tensor(t), d)),
            "aoti_torch_get_numel": lambda t, out, *_: self._write(out, numel(tensor(t))),
            "aoti_torch_is_contiguous": lambda t, out, *_: self._write(out, contiguous(tensor(t)), 1),
            "aoti_torch_get_device_type": lambda t, out, *_: self._write(out, CUDA_DEVICE_TYPE, 4),
            "aoti_torch_device_type_cuda": lambda *_: CUDA_DEVICE_TYPE,
            "aoti_torch_get_device_index": lambda t, out, *_: self._write(out, 0, 4),
            "aoti_torch_create_device_guard": lambda device, out, *_: self._write(out, CALLER),
            "aoti_torch_delete_device_guard": lambda *_: 0,
            "cudaDeviceGetAttribute": attribute,
            "cudaRuntimeGetVersion": lambda out, *_: self._write(out, self.runtime, 4),
        }

    def _at_instruction(self, core: unicorn.Uc, address: int, size: int, data: object) -> None:
        if address in self._ends:
            self._reached = self._ends[address]
            core.emu_stop()
        elif answer := self._answers.get(address):
            given = (core.reg_read(registers.UC_ARM64_REG_X0 + register) for register in range(8))
            core.reg_write(registers.UC_ARM64_REG_X0, answer(*given))
            core.reg_write(registers.UC_ARM64_REG_PC, core.reg_read(registers.UC_ARM64_REG_LR))

    def symbol(self, name: str) -> str:
        """The mangled name of the one function that has this name, in no namespace or in vLLM's."""
        beginnings = (f"_Z{len(name)}{name}", f"_ZN4vllm{len(name)}{name}E")
        # What GCC splits off a function has its name with a suffix after a dot.
        (found,) = (f for f in self.functions if f.startswith(beginnings) and "." not in f)
        return found

    def run(self, name: str, arguments: Sequence[Tensor | int | None], ends: Iterable[str] = ()) -> str | int:
        """Call a function: the first of `ends` it reaches, an import that nothing answers, or its result.

        None stands for an optional tensor that is not given.
        """
        self._tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        self._ends = {self.functions[self.symbol(end)]: end for end in ends}
        self._ends |= {
            address: imported
            for imported, address in self.imports.items()
            if address not in self._answers and address not in self._ends
        }
        self._reached: str | None = None
        handles = iter(range(1, len(self._tensors) + 1))
        stack = STACK + ROOM - PAGE
        for number, argument in enumerate(arguments):
            value = argument
            if not isinstance(argument, int):
                # A shared pointer (the handle, and no control block), and whether an optional holds it.
                value = ARGUMENTS + 32 * number
                handle = next(handles) if argument else 0
                self.core.mem_write(value, struct.pack("<QQQ", handle, 0, bool(argument)))
            if number < 8:
                self.core.reg_write(registers.UC_ARM64_REG_X0 + number, value)
            else:
                self._write(stack + 8 * (number - 8), value)
        self.core.reg_write(registers.UC_ARM64_REG_SP, stack)
        self.core.reg_write(registers.UC_ARM64_REG_LR, CALLER)
        self.core.emu_start(self.functions[self.symbol(name)], CALLER, count=100_000)
        if self._reached is None:
            assert self.core.reg_read(registers.UC_ARM64_REG_PC) == CALLER, f"{name} does not end"
            return self.core.reg_read(registers.UC_ARM64_REG_X0)
        return self._reached
