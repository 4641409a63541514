"""The driver's libraries: found on DGX OS and on NixOS, and given on alone."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from dgx_vllm.host import driver
from dgx_vllm.util.errors import UserError
from helpers.doctoring import (
    DRIVER_NAMES,
    FOREIGN,
    VERSION,
    elf_head,
    install_driver,
    install_foreign,
    load_module,
)

STORE = "nix/store/0000-nvidia-x11-580.95.05-6.12/lib"


def dgx_os(root: Path, machine: str = "aarch64") -> Path:
    directory = root / f"usr/lib/{machine}-linux-gnu"
    install_driver(directory, machine)
    install_foreign(directory, machine)
    return directory


def nixos(root: Path, machine: str = "aarch64") -> Path:
    """Links to links: /run/opengl-driver is a link itself, and the libraries lie in the store."""
    install_driver(root / STORE, machine)
    drivers = root / "nix/store/1111-graphics-drivers/lib"
    drivers.mkdir(parents=True)
    for path in (root / STORE).iterdir():
        (drivers / path.name).symlink_to(path)
    (drivers / "libEGL_mesa.so.0").write_bytes(elf_head(machine))
    (root / "run").mkdir()
    (root / "run/opengl-driver").symlink_to(drivers.parent)
    return root / "run/opengl-driver/lib"


LAYOUTS = {"DGX OS": dgx_os, "NixOS": nixos}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_driver_is_found(tmp_path: Path, layout: str, machine: str) -> None:
    directory = LAYOUTS[layout](tmp_path, machine)
    found = driver.find({}, tmp_path, machine)
    assert found is not None
    assert (found.directory, found.version, found.chosen) == (directory, VERSION, False)
    assert found.libraries["libcuda.so.1"].name == f"libcuda.so.{VERSION}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_but_the_driver_is_linked(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    found = driver.find({}, tmp_path, "aarch64")
    assert found is not None
    directory = driver.link(found, {"HOME": str(tmp_path / "home")})
    names = {path.name for path in directory.iterdir()}
    assert names >= DRIVER_NAMES | {"libcuda.so"}
    assert not names & {*FOREIGN, "libEGL_mesa.so.0"}
    for name in names:
        assert (directory / name).exists(), f"{name} leads nowhere"
        versioned = (directory / name).resolve().name.endswith(VERSION)
        assert versioned or name == "libnvidia-nvvm70.so.4"


@pytest.mark.parametrize(
    "directory",
    ["usr/lib64", "usr/local/nvidia/lib64", "usr/lib/wsl/lib", "usr/lib", "opt/toolkit/lib"],
)
def test_the_driver_is_found_in_other_systems_directories(tmp_path: Path, directory: str) -> None:
    configuration = tmp_path / "etc/ld.so.conf.d/nvcr-1.conf"
    configuration.parent.mkdir(parents=True)
    configuration.write_text("# added by the toolkit\n/opt/toolkit/lib\n")
    install_driver(tmp_path / directory)
    found = driver.find({}, tmp_path, "aarch64")
    assert found is not None
    assert found.directory == tmp_path / directory


def test_wsl_has_no_versions(tmp_path: Path) -> None:
    directory = tmp_path / "usr/lib/wsl/lib"
    directory.mkdir(parents=True)
    inside = {"libcuda.so", "libcuda.so.1", "libnvidia-ml.so.1", "libdxcore.so", "libnvdxgdmal.so.1"}
    for name in {*inside, "libd3d12.so", "libnvidia-container.so.1", "libstdc++.so.6"}:
        (directory / name).write_bytes(elf_head("x86_64"))
    found = driver.find({}, tmp_path, "x86_64")
    assert found is not None
    assert (found.version, set(found.libraries)) == (None, inside)


def test_first_place_wins(tmp_path: Path) -> None:
    dgx_os(tmp_path)
    directory = nixos(tmp_path)
    found = driver.find({}, tmp_path, "aarch64")
    assert found is not None
    assert found.directory == directory


def test_other_architecture_is_no_driver(tmp_path: Path) -> None:
    install_driver(tmp_path / "usr/lib64", "x86_64")
    assert driver.find({}, tmp_path, "aarch64") is None


def test_a_machine_without_driver_passes(tmp_path: Path) -> None:
    assert driver.find({}, tmp_path, "aarch64") is None
    assert driver.kernel_version(tmp_path) is None
    driver.check(None, tmp_path)


def test_variable_names_the_directory(tmp_path: Path) -> None:
    dgx_os(tmp_path)
    install_driver(tmp_path / "compat", version="615.31")
    found = driver.find({driver.VARIABLE: str(tmp_path / "compat")}, tmp_path, "aarch64")
    assert found is not None
    assert (found.directory, found.version, found.chosen) == (tmp_path / "compat", "615.31", True)
    load_module(tmp_path)
    driver.check(found, tmp_path)  # newer than the kernel module on purpose


def test_variable_names_nothing(tmp_path: Path) -> None:
    dgx_os(tmp_path)
    with pytest.raises(UserError, match=rf"{driver.VARIABLE} is .*no libcuda\.so\.1.*; name the directory"):
        driver.find({driver.VARIABLE: str(tmp_path / "nowhere")}, tmp_path, "aarch64")


@pytest.mark.parametrize("libraries", [True, False])
def test_a_driver_that_is_too_old_is_refused(tmp_path: Path, libraries: bool) -> None:
    if libraries:
        install_driver(tmp_path / "usr/lib64", version="575.57.08")
    load_module(tmp_path, "575.57.08")
    with pytest.raises(UserError) as raised:
        driver.check(driver.find({}, tmp_path, "aarch64"), tmp_path)
    message = str(raised.value)
    assert "575.57.08 is too old for CUDA 13, which needs 580 or later; install" in message
    assert "\n" not in message
    assert raised.value.status == 1


def test_a_driver_updated_by_half_asks_for_a_restart(tmp_path: Path) -> None:
    install_driver(tmp_path / "usr/lib64", version="580.142")
    load_module(tmp_path)
    with pytest.raises(UserError, match=r"libraries are 580\.142, its kernel module is 580\.95\.05; restart"):
        driver.check(driver.find({}, tmp_path, "aarch64"), tmp_path)


def test_links_are_made_once_and_anew_for_another_driver(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    dgx_os(tmp_path / "a")
    install_driver(tmp_path / "b/usr/lib64", version="590.10")
    first = driver.find({}, tmp_path / "a", "aarch64")
    second = driver.find({}, tmp_path / "b", "aarch64")
    assert first is not None
    assert second is not None
    made = driver.link(first, environ)
    before = made.stat().st_mtime_ns
    assert driver.link(first, environ) == made == driver.place(first, environ)
    assert made.stat().st_mtime_ns == before
    assert driver.link(second, environ) != made
    assert not [path for path in made.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError], ids=lambda fault: fault.__name__)
def test_links_that_are_not_finished_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    dgx_os(tmp_path)
    found = driver.find({}, tmp_path, "aarch64")
    assert found is not None
    environ = {"HOME": str(tmp_path / "home")}

    def broken_off(self: Path, target: Path) -> NoReturn:
        raise fault

    monkeypatch.setattr(Path, "symlink_to", broken_off)
    with pytest.raises(fault):
        driver.link(found, environ)
    assert not list(driver.place(found, environ).parent.iterdir())


def test_a_process_gets_the_drivers_directory_in_three_variables(tmp_path: Path) -> None:
    dgx_os(tmp_path)
    found = driver.find({}, tmp_path, "aarch64")
    assert found is not None
    environ = {"HOME": str(tmp_path), "LD_LIBRARY_PATH": "/mine"}
    directory = str(driver.place(found, environ))
    assert driver.variables(found, environ) == {
        "LD_LIBRARY_PATH": f"{directory}:/mine",
        "LIBRARY_PATH": directory,
        "TRITON_LIBCUDA_PATH": directory,
    }
    assert "TRITON_LIBCUDA_PATH" not in driver.variables(found, {**environ, "TRITON_LIBCUDA_PATH": "/mine"})


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """A driver of real libraries; libcuda opens the PTX compiler by its bare name, as NVIDIA's does."""
    compiler = os.environ.get("CC") or shutil.which("gcc")
    if not compiler or not shutil.which(compiler):
        pytest.skip("no C compiler here")
    directory = tmp_path / "root/usr/lib64"
    directory.mkdir(parents=True)
    sources = {
        "libnvidia-ptxjitcompiler.so.1": "int answer(void) { return 13; }",
        "libnvidia-ml.so.1": "int nvmlInit_v2(void) { return 0; } int nvmlShutdown(void) { return 0; }",
        "libcuda.so.1": "#include <dlfcn.h>\n"
        "int answer(void) {\n"
        '  void *jit = dlopen("libnvidia-ptxjitcompiler.so.1", RTLD_NOW);\n'
        '  return jit ? ((int (*)(void))dlsym(jit, "answer"))() : -1;\n'
        "}",
    }
    for soname, source in sources.items():
        file = directory / f"{soname.removesuffix('.1')}.{VERSION}"
        code = tmp_path / "library.c"
        code.write_text(source)
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{soname}", str(code), "-o", str(file), "-ldl"]
        subprocess.run(command, check=True)
        (directory / soname).symlink_to(file.name)
    (directory / "libstdc++.so.6").write_text("not a library")
    return tmp_path / "root"


def test_child_loads_by_bare_name(compiled: Path, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    found = driver.find({}, compiled)
    assert found is not None
    driver.link(found, environ)
    code = (
        "import ctypes; print(ctypes.CDLL('libcuda.so.1').answer()); "
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libstdc++' in line})"
    )
    child = [sys.executable, "-c", code]
    outcome = subprocess.run(
        child, env={**environ, **driver.variables(found, environ)}, capture_output=True, text=True, check=True
    )
    answer, *maps = outcome.stdout.splitlines()
    assert answer == "13"
    assert not any(str(compiled) in line for line in maps)


def test_linker_finds_libcuda(compiled: Path, tmp_path: Path) -> None:
    """As FlashInfer links what it compiles: -lcuda."""
    environ = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    found = driver.find({}, compiled)
    assert found is not None
    driver.link(found, environ)
    (tmp_path / "main.c").write_text("int answer(void); int main(void) { return answer() != 13; }")
    compiler = os.environ.get("CC") or "gcc"
    environ |= driver.variables(found, environ)
    subprocess.run([compiler, "main.c", "-lcuda", "-o", "main"], cwd=tmp_path, env=environ, check=True)
    subprocess.run([str(tmp_path / "main")], env=environ, check=True)


def test_nvml_binding_finds_the_library(compiled: Path, tmp_path: Path) -> None:
    """Without LD_LIBRARY_PATH, in this process: what is loaded by path answers to its bare name."""
    package = tmp_path / "vllm"
    (package / "third_party").mkdir(parents=True)
    (package / "third_party/pynvml.py").write_text(
        "import ctypes\n"
        "class NVMLError(Exception): pass\n"
        "def nvmlInit():\n"
        "    return ctypes.CDLL('libnvidia-ml.so.1').nvmlInit_v2()\n"
    )
    binding = driver.nvml(package, driver.find({}, compiled))
    assert binding.nvmlInit() == 0
    assert ctypes.CDLL("libnvidia-ml.so.1")


def test_no_nvml_binding(tmp_path: Path) -> None:
    assert driver.nvml(tmp_path, None) is None
