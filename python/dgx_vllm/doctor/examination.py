"""All findings of a place, and what follows from them."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dgx_vllm
from dgx_vllm.doctor import (
    backends,
    clocks,
    disk,
    extension_modules,
    gpu,
    history,
    ignored_settings,
    memory_findings,
    network,
    nvml,
    stored_models,
)
from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.nvml import Gpu
from dgx_vllm.doctor.place import Place

SCHEMA = 1


@dataclass(frozen=True)
class Examination:
    """What was found.

    Args:
        findings: in the order of the report.
        gpu: whether NVML shows a GPU.
        vllm: the installed vLLM's version and platform, None without one.
    """

    findings: tuple[Finding, ...]
    gpu: bool
    vllm: str | None

    @property
    def serves(self) -> bool:
        """Whether a server can be started here."""
        return all(finding.status is not Status.FAIL for finding in self.findings)

    def json(self) -> dict[str, Any]:
        """The object of `--json`, see the package's documentation."""
        return {
            "schema": SCHEMA,
            "serves": self.serves,
            "gpu": self.gpu,
            "versions": {
                "dgx-vllm": dgx_vllm.__version__,
                "vllm": self.vllm,
                "python": platform.python_version(),
            },
            "findings": [
                {
                    "area": finding.area,
                    "subject": finding.subject,
                    "status": str(finding.status),
                    "value": finding.value,
                    "remedy": finding.remedy,
                    "data": dict(finding.data),
                }
                for finding in self.findings
            ],
        }


def examine(place: Place, ask: bool = False) -> Examination:
    """Looks at a place.

    Args:
        place: where to look.
        ask: whether vLLM itself is asked for its backends, which takes as long as importing it.
    """
    seen = nvml.read(place.nvml)
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("gpu", lambda: gpu.findings(place, seen)),
        ("kernels", lambda: extension_modules.findings(place, seen)),
        ("backends", lambda: backends.findings(place, seen, ask)),
        ("memory", lambda: memory_findings.findings(place, seen)),
        ("clocks", lambda: clocks.findings(seen)),
        ("storage", lambda: disk.findings(place)),
        ("models", lambda: stored_models.findings(place)),
        ("network", lambda: network.findings(place)),
        ("settings", lambda: ignored_settings.findings(place)),
        ("history", lambda: history.findings(place)),
    ]
    findings = [finding for area, check in checks for finding in _run(area, check)]
    return Examination(tuple(findings), isinstance(seen, Gpu), place.vllm.version if place.vllm else None)


def _run(area: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """One area; what a machine answers unexpectedly costs that area alone."""
    try:
        return check()
    except (OSError, ValueError, LookupError) as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        return [
            Finding(area, area, Status.UNKNOWN, fault, "report it with the output of dgx-vllm doctor --json")
        ]
