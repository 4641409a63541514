"""The doctor: every finding by faking what it looks at, the screen, the JSON, the exit status."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dgx_vllm.doctor import backends, examination, report
from dgx_vllm.doctor.examination import Examination, examine
from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.place import Place
from dgx_vllm.host import driver
from dgx_vllm.launch.process import good_starts
from helpers.doctoring import (
    FakeNvml,
    NvmlError,
    cubin,
    fake_vllm,
    install_driver,
    library,
    limit_memory,
    load_module,
    ptx,
    write_meminfo,
)

LINES, WIDTH = 50, 100


def look(place: Place, subject: str) -> Finding:
    found = [finding for finding in examine(place).findings if finding.subject == subject]
    assert len(found) == 1, f"{subject}: {found}"
    return found[0]


def rendered(examined: Examination, width: int = WIDTH) -> str:
    out = io.StringIO()
    report.screen(examined, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def without_gpu(place: Place) -> Place:
    """A laptop: the CPU build, no driver, no NVML library."""
    return replace(
        place,
        vllm=fake_vllm(place.root / "cpu", platform="cpu"),
        driver=None,
        nvml=FakeNvml(Init=NvmlError("NVML Shared Library Not Found")),
        root=place.root / "laptop",
    )


def laptop(place: Place) -> Place:
    made = without_gpu(place)
    write_meminfo(made.root, MemTotal=32, MemAvailable=20, MemFree=5, SwapTotal=0, SwapFree=0)
    return made


# Ways in which a Spark is amiss: what to change, the subject, the status, what the value and the remedy say.
Change = Callable[[Place], Place]


def nvml(**values: Any) -> Change:
    return lambda place: replace(place, nvml=FakeNvml(**values))


def meminfo(**gib: float) -> Change:
    def change(place: Place) -> Place:
        write_meminfo(place.root, **gib)
        return place

    return change


def environ(**values: str) -> Change:
    return lambda place: replace(place, environ={**place.environ, **values})


def modules(**content: bytes) -> Change:
    return lambda place: replace(place, vllm=fake_vllm(place.root / "other", **content))


def old_driver(place: Place) -> Place:
    for path in (place.root / "usr/lib/aarch64-linux-gnu").iterdir():
        path.unlink()
    install_driver(place.root / "usr/lib/aarch64-linux-gnu", version="570.211.01")
    load_module(place.root, "570.211.01")
    found = driver.find({}, place.root, "aarch64")
    return replace(place, driver=found, nvml=FakeNvml(DriverVersion="570.211.01", Cuda=12080))


def other_kernel_module(place: Place) -> Place:
    load_module(place.root, "580.142")
    return place


def limited(place: Place) -> Place:
    limit_memory(place.root, str(8 * 2**30))
    return place


def kernel(release: str, command: str = "quiet", **gib: float) -> Change:
    def change(place: Place) -> Place:
        write_meminfo(place.root, **gib)
        path = place.root / "proc/sys/kernel/osrelease"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{release}\n")
        (place.root / "proc/cmdline").write_text(f"BOOT_IMAGE=/vmlinuz {command}\n")
        return place

    return change


def no_nvml(place: Place) -> Place:
    path = place.root / "proc/driver/nvidia/gpus/000f:01:00.0/information"
    path.parent.mkdir(parents=True)
    path.write_text("Model: \t\t NVIDIA GB10\nIRQ:   \t\t 400\n")
    return replace(place, nvml=FakeNvml(Init=NvmlError("NVML Shared Library Not Found")))


AMISS: dict[str, tuple[Change, str, Status, str, str]] = {
    "no vLLM": (lambda place: replace(place, vllm=None), "vLLM", Status.FAIL, "not installed", "nix run"),
    "no GPU": (nvml(Count=0), "GPU", Status.FAIL, "no NVIDIA GPU here", "install the driver"),
    "no NVML": (no_nvml, "GPU", Status.FAIL, "NVIDIA GB10, which NVML does not see", driver.VARIABLE),
    "other GPU": (
        nvml(Name="NVIDIA H100", Capability=(9, 0), Memory=80 * 2**30),
        "compute capability",
        Status.WARN,
        "9.0",
        "--dry-run",
    ),
    "silent capability": (
        nvml(Capability=None),
        "compute capability",
        Status.UNKNOWN,
        "does not say",
        "nvidia-smi",
    ),
    "old driver": (old_driver, "driver", Status.FAIL, "570.211.01 is too old for CUDA 13", "install a newer"),
    "old CUDA": (nvml(Cuda=12080), "CUDA", Status.FAIL, "runs 12.8", "install a newer"),
    "half updated": (other_kernel_module, "driver", Status.FAIL, "kernel module 580.142", "restart"),
    "no libcuda": (
        lambda place: replace(place, driver=None),
        "driver",
        Status.FAIL,
        "libcuda.so.1 was not found",
        driver.VARIABLE,
    ),
    "bad variable": (
        lambda place: replace(place, fault="DGX_VLLM_DRIVER is /x, where there is none; unset it"),
        "driver",
        Status.FAIL,
        "DGX_VLLM_DRIVER is /x",
        "unset it",
    ),
    "PTX alone": (
        lambda place: place,
        "_vllm_fa2_C",
        Status.WARN,
        "no code for 12.1, the driver compiles compute_80 PTX",
        "--attention-backend flashinfer",
    ),
    "wrong code": (
        modules(_moe_C_stable_libtorch=library(cubin("sm_90a"))),
        "_moe_C",
        Status.FAIL,
        "only 1 sm_90a",
        "nix run",
    ),
    "PTX of a GPU to come": (
        modules(_moe_C_stable_libtorch=library(ptx(130))),
        "_moe_C",
        Status.FAIL,
        "no code for 12.1",
        "nix run",
    ),
    "no module": (
        modules(_C_stable_libtorch=b"cut"),
        "_C",
        Status.FAIL,
        "cannot be read",
        "nix run",
    ),
    "no compiler": (lambda place: place, "FlashInfer", Status.WARN, "no nvcc", "CUDA_HOME"),
    "little memory": (
        meminfo(MemAvailable=60),
        "memory",
        Status.WARN,
        "128 GB Spark: 60.0 GiB available of 119.7 GiB, shared with the GPU; serve takes less than its "
        "default share of 0.75, 89.8 GiB",
        "dgx-vllm plan MODEL",
    ),
    "swapping": (meminfo(SwapFree=4), "swap", Status.WARN, "12.0 GiB used of 16.0 GiB", "swapoff"),
    "limited": (
        limited,
        "control group",
        Status.WARN,
        "8.0 GiB, which does not cover CUDA's memory",
        "MemAvailable",
    ),
    "kexec handover": (
        kernel("7.0.0-1019-nvidia", CmaTotal=1, CmaFree=27, MemAvailable=88, MemFree=88),
        "kexec handover",
        Status.WARN,
        "kernel 7.0.0-1019-nvidia: CmaFree 27.0 GiB is above CmaTotal 1.0 GiB",
        "kho=off",
    ),
    "kexec handover of another kernel": (
        kernel("7.1.3", CmaTotal=1, CmaFree=1.5),
        "kexec handover",
        Status.WARN,
        "CmaFree 1.5 GiB is above CmaTotal 1.0 GiB",
        "6.17 kernel",
    ),
    "kexec handover to come": (
        kernel("7.0.0-31-generic", CmaTotal=1, CmaFree=0.5),
        "kexec handover",
        Status.WARN,
        "7.0.0-31-generic: no sign of it yet",
        "kho=off",
    ),
    "stuck clock": (
        nvml(Clock=799, Power=19500),
        "SM clock",
        Status.WARN,
        "799 MHz of 3003, 20 W, 61 °C, 90% busy: stuck low under load",
        "from the mains",
    ),
    "silent clock": (nvml(Clock=None), "SM clock", Status.UNKNOWN, "does not say", "nvidia-smi"),
    "too warm": (nvml(Reasons=0x60), "throttling", Status.WARN, "too warm", "-lgc"),
    "power brake": (nvml(Reasons=0x80), "throttling", Status.WARN, "power brake", "mains"),
    "silent throttling": (nvml(Reasons=None), "throttling", Status.UNKNOWN, "does not say", "nvidia-smi"),
    "port": (environ(PORT="http"), "port", Status.FAIL, "PORT is 'http'", "1 to 65535"),
    "removed variable": (
        environ(VLLM_ATTENTION_BACKEND="FLASHINFER"),
        "VLLM_ATTENTION_BACKEND",
        Status.FAIL,
        "would ignore VLLM_ATTENTION_BACKEND",
        "use --attention-backend instead",
    ),
    "unknown variable": (
        environ(VLLM_USE_TRITTON="1"),
        "VLLM_USE_TRITTON",
        Status.FAIL,
        "would ignore VLLM_USE_TRITTON",
        "VLLM_USE_TRITON",
    ),
    "value that stops vLLM": (
        environ(VLLM_PORT="tcp://10.0.0.20:8000"),
        "VLLM_PORT",
        Status.FAIL,
        "would stop at VLLM_PORT",
        "enableServiceLinks: false",
    ),
}


def test_service_links_are_not_amiss(spark: Place) -> None:
    change = environ(VLLM_QWEN_SERVICE_HOST="10.0.0.20", VLLM_QWEN_PORT="tcp://10.0.0.20:8000")
    assert look(change(spark), "ignored").status is Status.OK


@pytest.mark.parametrize("name", AMISS)
def test_a_fault_has_a_status_and_a_remedy(spark: Place, name: str) -> None:
    change, subject, status, value, remedy = AMISS[name]
    finding = look(change(spark), subject)
    assert finding.status is status
    assert value in finding.value
    assert remedy in (finding.remedy or "")


def test_a_spark_in_order_serves(spark: Place) -> None:
    examined = examine(spark)
    assert examined.serves
    assert examined.gpu
    values = {finding.subject: finding.value for finding in examined.findings}
    assert values["GPU"] == "NVIDIA GB10, shares the host's memory"
    assert values["compute capability"] == "12.1 (GB10)"
    assert values["driver"].startswith("580.95.05, ")
    assert values["CUDA"].startswith("driver 13.0")
    assert values["_C"].startswith("1 sm_120f, 1 sm_120 (")
    assert values["NVFP4 linear"] == "CutlassNvFp4LinearKernel: no FlashInfer: no nvcc"
    assert values["NVFP4 experts"] == "VLLM_CUTLASS: no FlashInfer: no nvcc"
    assert values["attention"].startswith("FLASH_ATTN")
    assert values["attention, FP8 KV"].startswith("FLASHINFER")
    assert values["memory"] == "128 GB Spark: 112.0 GiB available of 119.7 GiB, shared with the GPU"
    assert values["page cache"] == "52.5 GiB; vLLM counts it as free"
    assert values["swap"] == "0.0 GiB used of 16.0 GiB"
    assert "MemAvailable" in values["control group"]
    assert values["SM clock"] == "2281 MHz of 3003, 92 W, 61 °C, 90% busy"
    assert values["throttling"] == "none"
    assert {finding.status for finding in examined.findings} <= {Status.OK, Status.WARN}


@pytest.mark.parametrize(
    ("total", "size"),
    [(119.7, "128 GB"), (121.69, "128 GB"), (60.8, "64 GB"), (57.7, "64 GB"), (55.7, "64 GB")],
)
def test_the_memory_finding_names_the_sparks_size(spark: Place, total: float, size: str) -> None:
    finding = look(meminfo(MemTotal=total, MemAvailable=50)(spark), "memory")
    assert finding.value.startswith(
        f"{size} Spark: 50.0 GiB available of {total:.1f} GiB, shared with the GPU"
    )
    assert finding.data["spark"] == size


@pytest.mark.parametrize(
    "change",
    [laptop, nvml(Memory=80 * 2**30), nvml(Capability=(11, 0))],
    ids=["no GPU", "memory of its own", "another GPU with unified memory"],
)
def test_the_memory_finding_calls_no_other_machine_a_spark(spark: Place, change: Change) -> None:
    finding = look(change(spark), "memory")
    assert "Spark" not in finding.value
    assert finding.data["spark"] is None


def test_idle_clock_is_not_stuck(spark: Place) -> None:
    assert look(nvml(Clock=208, Busy=0, Reasons=1)(spark), "SM clock").status is Status.OK


@pytest.mark.parametrize(
    "change",
    [
        kernel("6.17.0-1032-nvidia", CmaTotal=1, CmaFree=1),
        kernel("7.0.0-1019-nvidia", "quiet kho=off", CmaTotal=1, CmaFree=0.2),
        kernel("7.0.0-312-generic", CmaTotal=1, CmaFree=0.2),
        kernel("7.0.0-1019-nvidia", "quiet kho=off"),
    ],
)
def test_kernels_without_handover_get_no_line(spark: Place, change: Change) -> None:
    assert "kexec handover" not in {each.subject for each in examine(change(spark)).findings}


def test_what_changed_since_the_last_good_start(spark: Place) -> None:
    assert "last good start" not in {each.subject for each in examine(spark).findings}
    place = kernel("6.17.0-1008-nvidia")(spark)
    good_starts.record(good_starts.now("demo", place.root), place.environ)
    assert look(place, "last good start").value.endswith("demo; nothing has changed since")
    place = kernel("7.0.1-1-nvidia")(other_kernel_module(place))
    finding = look(place, "last good start")
    assert finding.status is Status.OK
    assert finding.data["changed"] == [
        "kernel 6.17.0-1008-nvidia -> 7.0.1-1-nvidia",
        "NVIDIA driver 580.95.05 -> 580.142",
    ]
    assert "; since then: kernel 6.17.0-1008-nvidia -> " in finding.value


def test_a_services_last_good_start_is_seen(spark: Place) -> None:
    place = kernel("6.17.0-1008-nvidia")(spark)
    home = place.root / "var/lib/dgx-vllm-main"
    good_starts.record(good_starts.now("served/model", place.root), {"HOME": str(home)})
    assert "served/model" in look(place, "last good start").value


def test_a_machine_in_order_has_nothing_to_improve(spark: Place) -> None:
    """On the old tree, a GPU that the CPU build does not need was "1 to improve"."""
    made = laptop(spark)
    assert (
        rendered(examine(made)).splitlines()[-1] == "this machine can serve (without a GPU); nothing to fix"
    )


def test_a_discrete_gpu_has_memory_of_its_own(spark: Place) -> None:
    place = nvml(Memory=80 * 2**30)(spark)
    assert look(place, "memory").value.endswith("the GPU has 80.0 GiB of its own")
    limit_memory(place.root, str(8 * 2**30))
    assert look(place, "control group").status is Status.OK


def test_limit_of_an_outer_group(spark: Place) -> None:
    limit_memory(spark.root, str(16 * 2**30), "/user.slice")
    limit_memory(spark.root, "max")
    assert look(spark, "control group").data["limit"] == 16 * 2**30


def test_flashinfer_with_a_compiler(spark: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "nvcc", lambda environ: "/cuda/bin/nvcc")
    monkeypatch.setattr(backends.shutil, "which", lambda name, path=None: f"/bin/{name}")
    monkeypatch.setattr(backends.os, "sched_getaffinity", lambda process: set(range(20)))
    assert look(spark, "NVFP4 linear").value.startswith("FlashInferCutlassNvFp4LinearKernel")
    # What `serve` sets itself is nothing to mend.
    finding = look(spark, "FlashInfer")
    assert (finding.status, finding.remedy) == (Status.OK, None)
    assert "serve sets how many jobs fit" in finding.value
    assert look(environ(MAX_JOBS="4")(spark), "FlashInfer").status is Status.OK
    # 112 GiB are available, which 14 jobs fill.
    assert look(environ(MAX_JOBS="14")(spark), "FlashInfer").status is Status.OK
    assert look(environ(MAX_JOBS="15")(spark), "FlashInfer").status is Status.WARN
    finding = look(environ(MAX_JOBS="20")(spark), "FlashInfer")
    assert finding.status is Status.WARN
    assert "20 jobs (MAX_JOBS), up to 8 GiB each" in finding.value
    assert finding.remedy is not None
    assert finding.remedy.startswith("unset MAX_JOBS: ")


def test_flashinfer_where_serve_does_not_bound_it(spark: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "nvcc", lambda environ: "/cuda/bin/nvcc")
    monkeypatch.setattr(backends.shutil, "which", lambda name, path=None: f"/bin/{name}")
    monkeypatch.setattr(backends.os, "sched_getaffinity", lambda process: set(range(20)))
    finding = look(nvml(Memory=80 * 2**30)(spark), "FlashInfer")
    assert finding.status is Status.WARN
    assert "one job a core (20)" in finding.value
    assert finding.remedy is not None
    assert finding.remedy.startswith("export MAX_JOBS=7 ")


def test_nvcc_is_looked_for_as_flashinfer_does(tmp_path: Path) -> None:
    tool = tmp_path / "cuda/bin/nvcc"
    tool.parent.mkdir(parents=True)
    tool.touch(0o755)
    assert backends.nvcc({"CUDA_HOME": str(tmp_path / "cuda"), "PATH": ""}) == str(tool)
    assert backends.nvcc({"CUDA_PATH": str(tmp_path / "cuda"), "PATH": ""}) == str(tool)
    assert backends.nvcc({"PATH": str(tool.parent)}) == str(tool)
    assert backends.nvcc({"CUDA_HOME": str(tmp_path / "other"), "PATH": str(tool.parent)}) is None


def test_a_port_in_use_is_a_warning(spark: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        finding = look(environ(PORT=str(taken.getsockname()[1]))(spark), "port")
    assert finding.status is Status.WARN
    assert "is in use" in finding.value
    assert "--port" in (finding.remedy or "")


def test_models_and_bytes_of_the_cache_are_counted(spark: Place) -> None:
    blobs = Path(spark.environ["HOME"]) / ".cache/huggingface/hub/models--a--b/blobs"
    blobs.mkdir(parents=True)
    (blobs / "weights").write_bytes(bytes(2**20))
    data = look(spark, "Hugging Face cache").data
    assert (data["models"], data["bytes"]) == (1, 2**20)


def test_what_models_share_is_counted_once(spark: Place) -> None:
    """huggingface_hub keeps it in hub/blobs, and a link to it in each model's folder."""
    hub = Path(spark.environ["HOME"]) / ".cache/huggingface/hub"
    (hub / "blobs" / "ab").mkdir(parents=True)
    (hub / "blobs" / "ab" / "weights").write_bytes(bytes(2**20))
    for name in ("a--b", "a--c"):
        (hub / f"models--{name}" / "blobs").mkdir(parents=True)
        (hub / f"models--{name}" / "blobs" / "weights").symlink_to("../../blobs/ab/weights")
    data = look(spark, "Hugging Face cache").data
    assert (data["models"], data["bytes"]) == (2, 2**20)


@pytest.mark.parametrize(
    ("main", "said"),
    [
        ("a" * 40, "the content of a/b's model.safetensors is gone"),
        ("b" * 40, "main of a/b is a commit that has not been downloaded"),
    ],
)
def test_a_model_that_is_not_whole_any_more(spark: Place, main: str, said: str) -> None:
    folder = Path(spark.environ["HOME"]) / ".cache/huggingface/hub/models--a--b"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/gone")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(main)
    finding = look(spark, "Hugging Face cache")
    assert finding.status is Status.WARN
    assert said in finding.value
    assert finding.remedy == "fetch it again: dgx-vllm download a/b"


@pytest.mark.parametrize(("free", "status"), [(2**20, Status.WARN), (2**40, Status.OK)])
def test_free_disk_decides_the_status_of_the_caches(
    spark: Place, monkeypatch: pytest.MonkeyPatch, free: int, status: Status
) -> None:
    from dgx_vllm.host import disk_space

    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: usage)
    assert look(spark, "Hugging Face cache").status is status
    assert look(spark, "vLLM's cache").status is (Status.FAIL if status is Status.WARN else Status.OK)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_cache_that_cannot_be_written(spark: Place) -> None:
    home = Path(spark.environ["HOME"])
    home.chmod(0o500)
    assert look(spark, "vLLM's cache").status is Status.FAIL


def test_a_missing_home_fails_the_caches(spark: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "expanduser", lambda path: (_ for _ in ()).throw(RuntimeError("no home")))
    finding = look(replace(spark, environ={}), "caches")
    assert finding.status is Status.FAIL
    assert "HOME" in (finding.remedy or "")


def test_many_ignored_variables_are_few_lines(spark: Place) -> None:
    named = {f"VLLM_NO_SUCH_{index}": "1" for index in range(20)}
    settings = [
        finding for finding in examine(environ(**named)(spark)).findings if finding.area == "settings"
    ]
    assert len(settings) == 5
    assert settings[-1].value.startswith("16 more: VLLM_NO_SUCH_")


def test_a_machine_without_gpu_can_serve_the_demo(spark: Place) -> None:
    examined = examine(laptop(spark))
    assert examined.serves
    assert not examined.gpu
    text = rendered(examined)
    assert "no NVIDIA GPU here; the CPU build serves the demo without" in text
    assert "this machine can serve (without a GPU)" in text
    assert {finding.area for finding in examined.findings} == {
        "gpu",
        "kernels",
        "backends",
        "memory",
        "storage",
        "network",
        "settings",
    }


def test_cuda_build_without_gpu_or_files(tmp_path: Path) -> None:
    """The product under an emulator: no GPU, no driver, hardly a /proc."""
    examined = examine(
        Place(environ={"HOME": str(tmp_path)}, vllm=fake_vllm(tmp_path), root=tmp_path / "none")
    )
    assert not examined.serves
    text = rendered(examined)
    assert "no NVIDIA GPU here (no NVML binding is installed)" in text
    assert "this machine cannot serve (without a GPU)" in text
    assert "1 sm_120f" in text


EXAMINED: dict[str, Change] = {
    "in order": lambda place: place,
    "laptop": laptop,
    **{name: change for name, (change, *_) in AMISS.items()},
}


@pytest.mark.parametrize("name", EXAMINED)
def test_every_finding_that_is_not_ok_has_a_remedy(spark: Place, name: str) -> None:
    for finding in examine(EXAMINED[name](spark)).findings:
        assert finding.value
        assert finding.remedy or finding.status is Status.OK, finding
        assert "\n" not in finding.value + (finding.remedy or "")


def test_finding_without_remedy_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="has no remedy"):
        Finding("gpu", "GPU", Status.WARN, "odd")


@pytest.mark.parametrize("name", EXAMINED)
def test_the_report_fits_one_screen(spark: Place, name: str) -> None:
    lines = rendered(examine(EXAMINED[name](spark))).splitlines()
    assert len(lines) <= LINES
    assert max(len(line) for line in lines) <= WIDTH


def test_one_screen_with_all_that_can_be_amiss_at_once(spark: Place) -> None:
    place = spark
    for name in ("little memory", "swapping", "limited", "removed variable", "half updated", "wrong code"):
        place = AMISS[name][0](place)
    place = nvml(Clock=700, Reasons=0x80)(place)
    lines = rendered(examine(place)).splitlines()
    assert len(lines) <= LINES


def test_no_symbols_where_they_cannot_be_shown(spark: Place) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    report.screen(examine(spark), Console(file=out, width=WIDTH))
    out.flush()
    assert b" warn " in out.buffer.getvalue()  # type: ignore[attr-defined]


SCHEMA: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "serves": bool,
    "gpu": bool,
    "versions": dict,
    "findings": list,
}
FINDING: dict[str, type | tuple[type, ...]] = {
    "area": str,
    "subject": str,
    "status": str,
    "value": str,
    "remedy": (str, type(None)),
    "data": dict,
}


@pytest.mark.parametrize("name", EXAMINED)
def test_the_json_report_has_its_schema(spark: Place, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    examined = examine(EXAMINED[name](spark))
    report.dump(examined)
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema"] == examination.SCHEMA == 1
    assert shown.keys() == SCHEMA.keys()
    assert all(isinstance(shown[key], kind) for key, kind in SCHEMA.items())
    for finding in shown["findings"]:
        assert finding.keys() == FINDING.keys()
        assert all(isinstance(finding[key], kind) for key, kind in FINDING.items())
        assert finding["status"] in ("ok", "warn", "fail", "unknown")
    names = [(finding["area"], finding["subject"]) for finding in shown["findings"]]
    assert len(names) == len(set(names))
    assert shown["serves"] == all(finding["status"] != "fail" for finding in shown["findings"])


def test_what_cannot_be_read_costs_one_area(spark: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (spark.root / "proc/meminfo").write_text("MemTotal: many kB\n")
    found = [finding for finding in examine(spark).findings if finding.area == "memory"]
    assert [finding.status for finding in found] == [Status.UNKNOWN]
    assert look(spark, "GPU").status is Status.OK


def test_backends_are_asked_of_vllm_with_the_drivers_libraries(
    spark: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {
        "linear": {
            "backend": "CutlassNvFp4LinearKernel",
            "passed_over": ["FlashInferCutlassNvFp4LinearKernel"],
        },
        "moe": {"error": "NotImplementedError: none"},
    }
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.update(options["env"])
        return subprocess.CompletedProcess(command, 0, f"noise\n{json.dumps(answers)}\n", "")

    monkeypatch.setattr(backends.subprocess, "run", run)
    found = {finding.subject: finding for finding in examine(spark, ask=True).findings}
    assert "after FlashInferCutlassNvFp4LinearKernel" in found["NVFP4 linear"].value
    assert found["NVFP4 experts"].status is Status.WARN
    assert Path(seen["LD_LIBRARY_PATH"], "libcuda.so.1").is_symlink()


@pytest.mark.parametrize("output", ["", "noise\n"])
def test_vllm_does_not_answer(spark: Place, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, output, "ImportError: no libcuda\n")

    monkeypatch.setattr(backends.subprocess, "run", run)
    found = {finding.subject: finding for finding in examine(spark, ask=True).findings}
    assert "ImportError: no libcuda" in found["selection"].value
    # No python of the product's is on the owner's PATH.
    assert str(found["selection"].remedy).startswith("dgx-vllm exec python -m dgx_vllm.doctor.selection ")


def test_nothing_heavy_is_imported(environment: dict[str, str]) -> None:
    code = (
        "import os, sys; from dgx_vllm.doctor import examination, place, report; "
        "report.dump(examination.examine(place.here(os.environ))); "
        "assert not {'torch', 'vllm', 'transformers'} & set(sys.modules)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout)["schema"] == 1


@pytest.mark.parametrize(("serves", "status"), [(True, 0), (False, 1)])
def test_exit_status_tells_whether_the_machine_serves(
    spark: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    serves: bool,
    status: int,
) -> None:
    from dgx_vllm import cli
    from dgx_vllm.doctor import place

    monkeypatch.setattr(place, "here", lambda environ: spark if serves else replace(spark, vllm=None))
    monkeypatch.setattr(sys, "argv", ["dgx-vllm", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == status
    assert json.loads(capsys.readouterr().out)["serves"] is serves
