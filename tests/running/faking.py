"""Units of services as the fake systemctl shows them."""

from collections.abc import Callable

Systemd = Callable[..., list[tuple[str, bool, list[str]]]]


def unit(command: str, **properties: object) -> dict[str, object]:
    """What `systemctl show` says of a unit whose ExecStart is that command."""
    words = f"{{ path=/x ; argv[]={command} ; ignore_errors=no ; start_time=[n/a] ; pid=0 ; status=0/0 }}"
    return {"ExecStart": words, "ActiveState": "inactive", "SubState": "dead", "MainPID": 0, **properties}
