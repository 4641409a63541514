"""A finding: what was looked at, how it is, and what to do."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Status(enum.StrEnum):
    """How a finding bears on serving, see the package's documentation."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        area: the group that it belongs to.
        subject: what was looked at.
        status: how it is.
        value: what was seen.
        remedy: what to do; needed unless the status is OK.
        data: what was seen, as numbers and names for programs; values that JSON knows.
    """

    area: str
    subject: str
    status: Status
    value: str
    remedy: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status is not Status.OK and not self.remedy:
            raise ValueError(f"{self.area}/{self.subject} is {self.status} and has no remedy")
