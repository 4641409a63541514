"""What patches/vllm mends stays mended."""

import os
import subprocess

import pytest
from vllm.utils import cpu_resource_utils


def test_cores_are_known_without_sys(monkeypatch: pytest.MonkeyPatch) -> None:
    """0001: without /sys `lscpu` ends with status 1; the process's own cores are then used."""

    def no_sys(command: str, **options: object) -> str:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "check_output", no_sys)
    cores = cpu_resource_utils.get_allowed_cpu_list()
    assert {core.id for core in cores} == os.sched_getaffinity(0)
