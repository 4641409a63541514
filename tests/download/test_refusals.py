"""What is refused: one line with a remedy, at once."""

import errno
import re
import shutil
import subprocess
import sys
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from downloading import Cache, Outcome, Run, Start, ended

from dgx_vllm.download import transfer
from dgx_vllm.host import disk_space
from dgx_vllm.hub import import_environment as variables
from dgx_vllm.util.errors import UserError
from helpers.fakehub import (
    FORBIDDEN,
    GATED,
    MODEL,
    NO_MODEL,
    NO_REVISION,
    TOKEN,
    WRONG_TOKEN,
    Behaviour,
    Hub,
    Refusal,
)

WEIGHTS = "model.safetensors"


def refused(outcome: Outcome, *said: str, status: int) -> None:
    """At once, in one line that says this."""
    assert outcome.status == status, outcome
    assert outcome.out == ""
    assert outcome.slept == []
    last = outcome.err.splitlines()[-1]
    assert re.fullmatch(r"dgx-vllm: [^\n]+", last)
    for words in said:
        assert words in last


REFUSALS: list[tuple[Refusal, list[str]]] = [
    (WRONG_TOKEN, ["the hub refuses the token (401)", "set HF_TOKEN"]),
    (GATED, ["org/model is gated", "accept its licence at http://127.0.0.1:", "/org/model"]),
    (FORBIDDEN, ["the token may not read org/model (403)"]),
    (NO_MODEL, ["the hub shows no model org/model", "correct the name", "HF_TOKEN"]),
    ((404, "RepoNotFound", ""), ["the hub shows no model org/model"]),
]


@pytest.mark.parametrize(("refusal", "said"), REFUSALS)
def test_a_listing_that_is_refused(
    download: Run, hub: Hub, cache: Cache, refusal: Refusal, said: list[str]
) -> None:
    hub.listing = [refusal]
    refused(download(), *said, status=2)
    assert hub.listings == 1
    assert not cache.directory.exists()


@pytest.mark.parametrize(("refusal", "said"), REFUSALS)
def test_a_file_that_is_refused(
    download: Run, hub: Hub, cache: Cache, refusal: Refusal, said: list[str]
) -> None:
    hub.fails(WEIGHTS, Behaviour(sent=1000), Behaviour(refusal))
    outcome = download()
    assert outcome.slept == [5]
    outcome.slept = []
    refused(outcome, *said, status=2)
    assert cache.part(WEIGHTS).stat().st_size == 1000


def test_without_a_token_the_line_asks_for_one(
    download: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    hub.listing = [GATED]
    refused(download(), "then set HF_TOKEN to a token of that account", status=2)
    assert hub.tokens == {None}


def test_an_unknown_revision_is_refused(download: Run, hub: Hub) -> None:
    refused(download(revision="nope"), "org/model has no revision 'nope'", status=2)
    hub.listing = [NO_REVISION]
    refused(download(), "no revision 'main'", status=2)


@pytest.mark.parametrize("model", ["a/b/c", "-model", "two words", "org/..model"])
def test_a_name_that_is_not_a_model_is_refused(download: Run, hub: Hub, model: str) -> None:
    refused(download(model), f"{model!r} is neither a profile", status=2)
    assert hub.listings == 0


def test_a_hub_without_hashes(download: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "blob", lambda name: "../../escape")
    refused(download(), "states neither size nor hash", status=1)


def test_an_empty_repository_is_refused(download: Run, hub: Hub) -> None:
    hub.files.clear()
    refused(download(), "org/model has no files", status=2)


# --- the disk -----------------------------------------------------------------------------------------


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free, 0, free))


def test_a_disk_that_is_too_full_is_refused_before_the_first_byte(
    download: Run, hub: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(map(len, hub.files.values()))
    disk(monkeypatch, disk_space.MARGIN + needed - 1)
    refused(download(), "the disk is too full", "0.0003 GB more", "HF_HOME", status=1)
    assert hub.requests == []
    disk(monkeypatch, disk_space.MARGIN + needed)
    assert download().status == 0
    disk(monkeypatch, 0)
    assert download().status == 0, "nothing is needed any more"


def test_a_part_lessens_what_is_needed(
    download: Run, hub: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = cache.part(WEIGHTS)
    part.parent.mkdir(parents=True)
    part.write_bytes(hub.files[WEIGHTS][:200_000])
    disk(monkeypatch, disk_space.MARGIN + sum(map(len, hub.files.values())) - 200_000)
    assert download().status == 0


def test_a_disk_that_fills_up_keeps_what_came(
    download: Run, hub: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_full(out: FileIO, chunk: bytes) -> None:
        fits = max(123_456 - out.tell(), 0)
        written(out, chunk[:fits])
        if len(chunk) > fits:
            raise OSError(errno.ENOSPC, "No space left on device")

    written = transfer.write
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "write", nearly_full)
        refused(download(), "the disk filled up", "the data so far is kept", status=1)
    assert cache.part(WEIGHTS).stat().st_size == 123_456
    assert download().status == 0
    assert [each.start for each in hub.asked(WEIGHTS)] == [0, 123_456]
    assert cache.is_whole()


def test_the_kernel_says_that_the_disk_is_full(download: Run, hub: Hub, cache: Cache) -> None:
    part = cache.part(WEIGHTS)
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    refused(download(), "the disk filled up", status=1)


def test_a_write_takes_what_fits_and_goes_on(tmp_path: Path) -> None:
    class Reluctant(FileIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[:3])

    with Reluctant(tmp_path / "file", "wb") as out:
        transfer.write(out, b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_cache_that_cannot_be_written(download: Run, cache: Cache) -> None:
    cache.directory.parent.mkdir(parents=True)
    cache.directory.write_text("a file where the cache should be")
    refused(download(), "cannot be written", "HF_HOME", status=1)


def test_a_folder_that_cannot_be_made(download: Run, cache: Cache) -> None:
    cache.directory.mkdir(parents=True)
    cache.folder.write_text("a file where the model's folder should be")
    refused(download(), "cannot be stored", "HF_HOME", status=1)


# --- the command line ---------------------------------------------------------------------------------


def test_a_wrong_token_on_the_command_line(start: Start, hub: Hub) -> None:
    hub.listing = [WRONG_TOKEN]
    outcome = ended(start())
    refused(outcome, "the hub refuses the token (401)", status=2)
    assert outcome.err.count("\n") == 1


def test_a_cause_has_neither_token_nor_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from dgx_vllm.hub import faults

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    error = faults.BrokenOffError(f"https://hub.example/a?Signature=b broke off with {TOKEN}\nmore")
    assert faults.cause(error) == "the hub broke off with (token)"


@pytest.mark.parametrize("character", ["\x0b", "\N{SNOWMAN}"])
def test_a_token_that_no_header_takes_is_not_shown(
    download: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"hf_Secret{character}Part")
    outcome = download()
    refused(outcome, "HF_TOKEN holds characters that no token has", status=2)
    assert "Secret" not in outcome.err
    assert hub.listings == 0


def test_the_token_from_a_file(start: Start, hub: Hub, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_FromAFile\n")
    outcome = ended(start(HF_TOKEN="", HF_TOKEN_PATH=str(tmp_path / "token")))
    assert outcome.status == 0
    assert hub.tokens == {"Bearer hf_FromAFile"}
    assert "hf_FromAFile" not in outcome.out + outcome.err
    assert cache.is_whole()


def test_huggingface_hub_is_imported_after_its_variables_are_set(
    hub: Hub, environment: dict[str, str]
) -> None:
    code = (
        "import os, sys; from dgx_vllm import cli; from dgx_vllm.download import command\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        f"command.download({MODEL!r}, os.environ)\n"
        "from huggingface_hub import constants\n"
        "print(constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DOWNLOAD_TIMEOUT)"
    )
    environ = {**environment, "HF_ENDPOINT": hub.url}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["True 30"], done.stderr


def test_no_bars_in_a_journal(start: Start, hub: Hub, cache: Cache) -> None:
    outcome = ended(start(HF_HUB_DISABLE_PROGRESS_BARS="0"))
    assert outcome.status == 0
    assert outcome.err.splitlines() == [
        f"dgx-vllm: {MODEL}: 0.0003 GB of 0.0003 GB to download into {cache.directory}"
    ]
    assert "\r" not in outcome.err


# --- the environment ----------------------------------------------------------------------------------


def test_what_huggingface_hub_is_told() -> None:
    environ: dict[str, str] = {}
    variables.prepare(environ)
    assert environ["HF_HUB_DISABLE_XET"] == "1"
    assert environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"
    assert int(environ["HF_HUB_DOWNLOAD_TIMEOUT"]) > 0
    chosen = {"HF_HUB_DISABLE_XET": "0", "HF_HUB_DOWNLOAD_TIMEOUT": "7"}
    environ = dict(chosen)
    variables.prepare(environ)
    assert chosen.items() <= environ.items()


@pytest.mark.parametrize(
    "environ",
    [
        {"HF_HUB_DOWNLOAD_TIMEOUT": "soon"},
        {"HF_HUB_DOWNLOAD_TIMEOUT": "0"},
        {"HF_HUB_ETAG_TIMEOUT": "1.5"},
        {"HF_ENDPOINT": "hub.example"},
        {"HF_ENDPOINT": "http://[broken"},
        {"HF_ENDPOINT": "ftp://hub.example"},
    ],
)
def test_variables_that_huggingface_hub_would_stumble_over(environ: dict[str, str]) -> None:
    with pytest.raises(UserError, match=next(iter(environ))):
        variables.prepare(environ)
