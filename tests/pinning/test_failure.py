"""How a command ends: by one line and a status, whatever went wrong."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinning.failure import UserError, exit_with

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def ended(main: object, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as exit_:
        exit_with(main)  # type: ignore[arg-type]
    return exit_.value.code, capsys.readouterr().err


def test_a_status_is_handed_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda _: 3, capsys) == (3, "")


def test_a_user_error_is_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: list[str]) -> int:
        raise UserError("so: do this")

    assert ended(main, capsys) == (1, "error: so: do this\n")


def test_a_full_disk_is_a_line_that_asks_for_room(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: list[str]) -> int:
        raise OSError(28, "No space left on device", "/where")

    status, errors = ended(main, capsys)
    assert status == 1
    assert errors.startswith("error: /where: No space left on device: make room in ")
    assert errors.count("\n") == 1


def test_an_error_of_the_system_names_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def main(_: list[str]) -> int:
        return len((tmp_path / "absent").read_text())

    line = f"error: {tmp_path}/absent: No such file or directory: check it, then run this again\n"
    assert ended(main, capsys) == (1, line)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_line_and_its_status(
    capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def main(_: list[str]) -> int:
        try:
            os.kill(os.getpid(), number)
        finally:
            # While things are put in order a further signal changes nothing.
            os.kill(os.getpid(), signal.SIGINT)
        return 0

    line = "error: interrupted: run the same command to go on\n"
    assert ended(main, capsys) == (128 + number, line)


def test_what_nohup_ignores_stays_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def main(_: list[str]) -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        return 0

    assert ended(main, capsys) == (0, "")
