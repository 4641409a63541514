"""`pinning.offline` on a machine of the tests: what fails says so in one line and leaves nothing."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from machine import Machine, alive

from helpers.processes import PATIENCE, until
from pinning.progress import amount


def failed(machine: Machine, done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """The one line of a failure, after checking what every failure owes."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("offline: ", "["))]
    assert [line[:7] for line in lines] == ["error: "], done.stderr
    assert done.returncode == status
    assert done.stdout == ""
    assert machine.left == []
    assert machine.store < machine.wanted
    return lines[0]


def test_what_is_missing_is_fetched_and_nix_runs(machine: Machine) -> None:
    done = machine.run()
    assert (done.returncode, done.stdout) == (0, "nix runs\n"), done.stderr
    assert machine.store == machine.wanted
    assert machine.left == []


def test_says_what_is_fetched_from_where(machine: Machine) -> None:
    first = machine.run().stderr.splitlines()[0]
    size = sum(pin.size for pin in (*machine.pins.files, *(seed.package for seed in machine.pins.seeds)))
    assert first.startswith("offline: fetching 10 pinned files, ")
    assert f", {size / 1e3:.0f} kB, from http://mirror.test/debian/ by apt and " in first


def test_one_small_file_is_one_of_its_size(machine: Machine) -> None:
    machine.run()
    wheel = next(pin for pin in machine.pins.files if pin.name == "small")
    (machine.root / "store" / Path(wheel.store_path).name).unlink()
    first = machine.run().stderr.splitlines()[0]
    assert first.startswith(f"offline: fetching 1 pinned file, {wheel.size} bytes, from ")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (78_400, "78 kB"),
        (3.4e9, "3.4 GB"),
        (47e6, "47 MB"),
    ],
)
def test_an_amount_is_in_a_unit_that_says_something(size: float, shown: str) -> None:
    assert amount(size) == shown


def test_what_the_store_has_is_not_fetched(machine: Machine) -> None:
    machine.run()
    before = machine.calls("apt-get"), machine.calls("pip")
    assert machine.run().returncode == 0
    assert (machine.calls("apt-get"), machine.calls("pip")) == before


@pytest.mark.parametrize("served", ["archive/amd64/data_5-1_all.deb", "index/middle-1.0-py3-none-any.whl"])
def test_other_bytes_than_pinned_are_refused(machine: Machine, served: str) -> None:
    path = machine.root / served
    path.write_bytes(b"other bytes")
    line = failed(machine, machine.run())
    assert path.name in line
    assert "not match the pinned SHA-256: restore nix/pins with git" in line
    assert not any(path.name in name for name in machine.store)


@pytest.mark.parametrize(
    "served", ["archive/arm64/libfoo_1%3a2.0~rc1-1_arm64.deb", "index/large-1.0-py3-none-any.whl"]
)
def test_a_registry_without_the_file_is_told(machine: Machine, served: str) -> None:
    (machine.root / served).unlink()
    line = failed(machine, machine.run())
    assert "answered but does not have this file: run this again, or use another mirror" in line


def test_a_seed_package_of_other_bytes_is_not_unpacked(machine: Machine) -> None:
    for path in machine.root.glob("archive/*/busybox*"):
        path.write_bytes(b"other bytes")
    assert "not match the pinned SHA-256" in failed(machine, machine.run())
    assert machine.calls("dpkg-deb") == []


def test_a_seed_of_another_hash_is_not_added(machine: Machine) -> None:
    machine.reseed("0" * 64)
    assert "its busybox is not the pinned one: restore nix/pins with git" in failed(machine, machine.run())


def test_a_broken_seed_package_is_told(machine: Machine) -> None:
    machine.say("dpkg-deb", "dpkg-deb: error: unexpected end of file")
    assert "cannot be unpacked (dpkg-deb: error: unexpected end of file)" in failed(machine, machine.run())


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        (
            "apt-get",
            "E: Failed to fetch http://mirror.test/x  Timed out\nE: Some index files failed to download",
            "E: Failed to fetch http://mirror.test/x  Timed out; check the network and `apt-get update`",
        ),
        (
            "apt-get",
            "E: Write error - write (28: No space left on device)",
            "No space left on device); make room in ",
        ),
        (
            "pip",
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError("
            "'<x.HTTPSConnection object at 0x7f>: Failed to establish a new connection: "
            "[Errno 111] Connection refused')': /simple/y/\n"
            "ERROR: No matching distribution found for small==1.0",
            "pip's index does not answer (Failed to establish a new connection: "
            "[Errno 111] Connection refused); check the network and `pip config list`",
        ),
        (
            "pip",
            "WARNING: The repository located at mirror.test is not a trusted or secure host "
            "and is being ignored.",
            "pip leaves out its index, which is not served over HTTPS: add it to trusted-host",
        ),
        (
            "pip",
            "ERROR: No matching distribution found for small==1.0",
            "small-1.0-py3-none-any.whl: pip's index does not have it: use another index",
        ),
        (
            "pip",
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "small-1.0-py3-none-any.whl: the bytes of pip's index do not match the pinned SHA-256: restore",
        ),
        (
            "pip",
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "[Errno 28] No space left on device; make room in ",
        ),
        (
            "pip",
            "ERROR: Exception:\nTraceback (most recent call last):\nOSError: No space left on device",
            "-any.whl: OSError: No space left on device; make room in ",
        ),
        ("pip", "/usr/bin/python3: No module named pip", "has no pip: apt-get install python3-pip"),
        ("pip", "", "pip could not download small-1.0-py3-none-any.whl: no reason given; run this again"),
        ("nix-store", "error: cannot connect to socket", "error: cannot connect to socket"),
        (
            "unshare",
            "unshare: unshare failed: Operation not permitted",
            "refuses the namespaces that Nix's sandbox needs (unshare: unshare failed: Operation not "
            "permitted): run this as root, allow them (sysctl user.max_user_namespaces",
        ),
        (
            "nix",
            "error: flake 'path:x' does not provide attribute 'packages.x86_64-linux.all'",
            "this flake has no packages.",
        ),
    ],
)
def test_a_program_that_fails_is_one_line_with_the_remedy(
    machine: Machine, program: str, words: str, expected: str
) -> None:
    machine.say(program, words)
    assert expected in failed(machine, machine.run())


@pytest.mark.parametrize(
    "program", ["apt-get", "apt-config", "unshare", "nix", "nix-store", "nix-hash", "dpkg-deb"]
)
def test_a_program_that_is_missing_is_named(machine: Machine, program: str) -> None:
    (machine.root / "bin" / program).unlink()
    assert f"this machine has no {program}: install" in failed(machine, machine.run())


def test_a_full_disk_is_told_before_the_first_byte(machine: Machine) -> None:
    machine.resize("large", 10**15)
    line = failed(machine, machine.run())
    assert "GB free and this needs about 4000000.0 GB: make room (nix-collect-garbage" in line
    assert not any("update" in call or "download" in call for call in machine.calls("apt-get"))


def test_a_store_that_cannot_say_what_it_has_is_told(machine: Machine) -> None:
    """Silence from nix-store would else mean that nothing is missing."""
    machine.say("nix-store --check-validity", "error: cannot open the database")
    line = failed(machine, machine.run())
    assert line == "error: nix-store --check-validity: cannot open the database; run this again"


def test_damaged_pins_are_told(machine: Machine) -> None:
    (machine.nix / "pins/pypi.json").write_text("{")
    done = machine.run()
    assert done.returncode == 1
    assert done.stderr.startswith("error: the pins in ")
    assert done.stderr.rstrip().endswith("restore them with git, or run update")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "signals", "status"),
    [
        ("apt-get", [signal.SIGINT], 130),
        ("pip", [signal.SIGINT], 130),
        ("pip", [signal.SIGINT, signal.SIGINT, signal.SIGINT], 130),
        ("apt-get", [signal.SIGTERM], 143),
        ("pip", [signal.SIGHUP], 129),
    ],
)
def test_an_interruption_ends_everything_and_the_next_run_goes_on(
    machine: Machine, program: str, signals: list[signal.Signals], status: int
) -> None:
    held = {"apt-get": "libfoo", "pip": "large"}[program]
    machine.hold(program, held)
    process = machine.start()
    other = {"apt-get": "large", "pip": "data"}[program]
    until(lambda: bool(machine.waiting) and any(other in name for name in machine.store))
    for each in signals:
        process.send_signal(each)
    # What is held would wait for ever.
    output, errors = process.communicate(timeout=PATIENCE)
    done = subprocess.CompletedProcess([], process.returncode, output, errors)
    assert failed(machine, done, status) == "error: interrupted: run the same command to go on"
    assert not any(alive(each) for each in machine.waiting)

    arrived = machine.store
    machine.release()
    (machine.root / "calls").unlink()
    assert machine.run().returncode == 0
    assert machine.store == machine.wanted > arrived
    asked = " ".join([*machine.calls("apt-get"), *machine.calls("pip")])
    assert other not in asked


def test_a_failure_does_not_wait_for_other_downloads(machine: Machine) -> None:
    machine.hold("pip", "large")
    served = machine.root / "archive/amd64/data_5-1_all.deb"
    served.write_bytes(b"other bytes")
    failed(machine, machine.run())
    assert not any(alive(each) for each in machine.waiting)


def test_an_index_that_says_nothing_is_given_up(machine: Machine) -> None:
    pip = machine.nix / "pinning/pip.py"
    text = pip.read_text()
    assert "PROBE_SECONDS = 60\n" in text
    pip.write_text(text.replace("PROBE_SECONDS = 60\n", "PROBE_SECONDS = 1\n"))
    machine.hold("pip")
    line = failed(machine, machine.run())
    assert "pip's index does not answer: no small-1.0-py3-none-any.whl within 1 s; check the network" in line
    assert not any(alive(each) for each in machine.waiting)


def test_credentials_of_a_mirror_are_not_shown(machine: Machine) -> None:
    machine.environment["DGX_VLLM_DEBIAN_MIRROR"] = "http://user:secret@mirror.test/debian"
    errors = machine.run().stderr
    assert "http://mirror.test/debian/ by apt" in errors
    assert "secret" not in errors


def test_what_no_build_needs_is_not_fetched(machine: Machine) -> None:
    """Of the seeds this machine's alone is fetched, which the sandbox needs."""
    (machine.root / "building").write_text(Path(machine.pins.files[0].store_path).name)
    assert machine.run().returncode == 0
    own = next(seed for seed in machine.pins.seeds if seed.system == f"{os.uname().machine}-linux")
    assert machine.store == {Path(machine.pins.files[0].store_path).name, Path(own.store_path).name}


def test_a_command_that_reads_no_flake_fetches_nothing(machine: Machine) -> None:
    assert machine.run("--version").stdout == "nix runs\n"
    assert machine.store == set()
