"""What `serve` makes of every profile, and what vLLM makes of that on a GB10."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import profile_cases
import pytest
from profile_cases import MEMORY, Answers, DryRuns, checkpoint

from dgx_vllm.host.machine import Machine
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Profile
from helpers.doctoring import cubin, library
from helpers.launch_fixtures import dgx_vllm, laptop, spark
from helpers.launching import Run

__all__ = ["dgx_vllm", "laptop", "spark"]

_PROGRAM = Path(__file__).parent / "models_on_gb10.py"


@pytest.fixture(scope="session")
def _kept() -> dict[str, Any]:
    """What takes seconds and is the same for every test."""
    return {}


@pytest.fixture
def dry_runs(_kept: dict[str, Any], dgx_vllm: Run, spark: Machine) -> DryRuns:
    """`serve MODEL --dry-run --json` of each profile, by profile and size of the Spark."""

    def run(of: Profile, size: str) -> dict[str, Any]:
        machine = replace(spark, memory=MEMORY[size])
        outcome = dgx_vllm("serve", of.model, "--dry-run", "--json", on=machine)
        assert (outcome.status, outcome.err) == (0, ""), f"{of.name} on {size}: {outcome.err}"
        document: dict[str, Any] = json.loads(outcome.out)
        assert document["profile"] == of.name
        return document

    if "dry runs" not in _kept:
        _kept["dry runs"] = {(of.name, size): run(of, size) for of in profile.builtin() for size in MEMORY}
    runs: DryRuns = _kept["dry runs"]
    return runs


@pytest.fixture
def answers(
    _kept: dict[str, Any],
    dry_runs: DryRuns,
    session_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """What vLLM says to the commands, and to a profile's command with each of its drafts, by name."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    if "answers" not in _kept:
        directory = tmp_path_factory.mktemp("published")
        cases = profile_cases.commands(dry_runs, lambda model: checkpoint(directory, model))
        listed = directory / "cases.json"
        listed.write_text(json.dumps(cases))
        kernels = directory / "libdgx_kernels.so"
        kernels.write_bytes(library(cubin("sm_121a")))  # choosing a layer does not load it
        outcome = subprocess.run(
            [sys.executable, "-P", str(_PROGRAM), str(listed)],
            # Without a network, as the tests run; the models are directories.
            env={
                **session_environment,
                "HF_HUB_OFFLINE": "1",
                "VLLM_LOGGING_LEVEL": "ERROR",
                "DGX_VLLM_KERNELS_LIBRARY": str(kernels),
            },
            capture_output=True,
            text=True,
        )
        assert outcome.returncode == 0, outcome.stderr
        _kept["answers"] = json.loads(outcome.stdout.splitlines()[-1])
    said: Answers = _kept["answers"]
    return said
