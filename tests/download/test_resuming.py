"""Downloads that break off, and what is fetched again."""

import os
from itertools import count
from pathlib import Path

import pytest
from downloading import Cache, Run

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.download.backoff import ATTEMPTS
from dgx_vllm.profiles.profile import Profile
from helpers.fakehub import BUSY, COMMIT, DOWN, FORBIDDEN, MODEL, TOKEN, WRONG_TOKEN, Behaviour, Hub

WEIGHTS = "model.safetensors"


def test_a_download_brings_every_file_once(
    download: Run, hub: Hub, cache: Cache, environment: dict[str, str]
) -> None:
    outcome = download()
    assert outcome.status == 0
    assert outcome.out == f"dgx-vllm: {MODEL} is here: 3 files, 0.0003 GB, in {cache.placed('')}\n"
    assert cache.is_whole()
    assert checkpoint.cached(MODEL, environment)
    assert hub.sent() == sum(map(len, hub.files.values()))
    assert hub.tokens == {f"Bearer {TOKEN}"}
    # Compressed, an answer has no ranges and another size.
    assert {request.encoding for request in hub.requests} == {"identity"}
    assert outcome.slept == []


def test_a_second_one_fetches_nothing(download: Run, hub: Hub, cache: Cache) -> None:
    download()
    sent = hub.sent()
    outcome = download()
    assert outcome.status == 0
    assert hub.sent() == sent
    assert outcome.err == ""


def test_a_download_continues_where_the_connection_broke(download: Run, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, Behaviour(sent=100_001), Behaviour(sent=50_000))
    outcome = download()
    assert outcome.status == 0
    assert cache.is_whole()
    assert [(each.asked_range, each.start) for each in hub.asked(WEIGHTS)] == [
        (False, 0),
        (True, 100_001),
        (True, 150_001),
    ]
    assert hub.sent() == sum(map(len, hub.files.values()))
    assert outcome.slept == [5, 5]


def test_weights_come_from_another_host_which_gets_no_token(download: Run, mirror: Hub, cache: Cache) -> None:
    mirror.fails(WEIGHTS, Behaviour(sent=1000))
    outcome = download()
    assert outcome.status == 0
    assert cache.is_whole()
    assert [each.start for each in mirror.asked(WEIGHTS)] == [0, 1000]
    assert mirror.tokens == {f"Bearer {TOKEN}"}
    assert mirror.mirror_tokens == {None}


def test_a_signed_address_is_not_shown(download: Run, mirror: Hub) -> None:
    mirror.fails(WEIGHTS, Behaviour(DOWN), Behaviour(FORBIDDEN))
    outcome = download()
    assert outcome.status == 2
    assert "again in 5 s" in outcome.err
    assert "Signature" not in outcome.err


def test_a_stalled_connection_is_a_failed_attempt(download: Run, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, Behaviour(sent=70_000, held=True))
    outcome = download()
    assert outcome.status == 0
    assert "the hub does not answer" in outcome.err
    assert [each.start for each in hub.asked(WEIGHTS)] == [0, 70_000]


@pytest.mark.parametrize("refusal", [DOWN, BUSY], ids=["503", "429"])
def test_a_hub_that_is_down_or_busy_is_asked_again(
    download: Run, hub: Hub, cache: Cache, refusal: tuple[int, str, str]
) -> None:
    hub.listing = [refusal]
    hub.fails(WEIGHTS, Behaviour(refusal), Behaviour(refusal))
    outcome = download()
    assert outcome.status == 0
    assert cache.is_whole()
    assert outcome.slept == [5, 5, 10]
    assert f"the hub answers {refusal[0]}; again in 10 s (2 of 10 attempts made no progress)" in outcome.err


def test_a_page_of_somebody_else_is_no_listing(download: Run, hub: Hub, cache: Cache) -> None:
    hub.listing = ["<html>Log in to this network</html>"]
    outcome = download()
    assert outcome.status == 0
    assert outcome.slept == [5]


def test_a_download_ends_after_ten_attempts_without_a_byte(download: Run, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, Behaviour(sent=1000), *[Behaviour(DOWN)] * ATTEMPTS)
    outcome = download()
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1].startswith(
        f"dgx-vllm: {MODEL}: 10 attempts in a row made no progress"
    )
    assert outcome.slept == [5, 5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert cache.part(WEIGHTS).stat().st_size == 1000
    assert not (cache.folder / "refs").exists()
    assert download().status == 0
    assert hub.asked(WEIGHTS)[-1].start == 1000


def test_bytes_that_came_before_are_no_progress(download: Run, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, *[Behaviour(sent=1000, ranges=False)] * 20)
    outcome = download()
    assert outcome.status == 1
    assert len(hub.asked(WEIGHTS)) == 1 + ATTEMPTS


def test_a_server_without_ranges_starts_over(download: Run, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, Behaviour(sent=1000), Behaviour(ranges=False))
    assert download().status == 0
    assert cache.is_whole()


def test_more_than_the_file_is_not_taken_for_it(download: Run, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, Behaviour(surplus=10))
    outcome = download()
    assert outcome.status == 0
    assert "more than the 300016 bytes" in outcome.err
    assert cache.is_whole()


def test_a_part_of_huggingface_hub_is_continued(download: Run, hub: Hub, cache: Cache) -> None:
    part = cache.part(WEIGHTS)
    part.parent.mkdir(parents=True)
    part.write_bytes(hub.files[WEIGHTS][:200_000])
    outcome = download()
    assert [each.start for each in hub.asked(WEIGHTS)] == [200_000]
    assert f"{MODEL}: 0.0001 GB of 0.0003 GB to download" in outcome.err


def test_a_part_that_is_already_whole_is_only_verified(download: Run, hub: Hub, cache: Cache) -> None:
    part = cache.part(WEIGHTS)
    part.parent.mkdir(parents=True)
    part.write_bytes(hub.files[WEIGHTS])
    assert download().status == 0
    assert hub.asked(WEIGHTS) == []
    assert cache.is_whole()


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_corrupt_file_is_fetched_once_more(download: Run, hub: Hub, cache: Cache, name: str) -> None:
    hub.fails(name, Behaviour(corrupt=True))
    outcome = download()
    assert outcome.status == 0
    assert cache.is_whole()
    assert [each.start for each in hub.asked(name)] == [0, 0]
    assert outcome.slept == []


def test_a_part_that_was_corrupt_before_is_not_kept(download: Run, hub: Hub, cache: Cache) -> None:
    part = cache.part(WEIGHTS)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert download().status == 0
    assert [each.start for each in hub.asked(WEIGHTS)] == [1000, 0]
    assert cache.is_whole()


def test_a_file_that_stays_corrupt_is_refused(download: Run, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, *[Behaviour(corrupt=True)] * 3)
    outcome = download()
    assert outcome.status == 1
    assert f"{WEIGHTS} of {MODEL} arrived twice with a hash that differs" in outcome.err.splitlines()[-1]
    assert outcome.err.count("fetching it again") == 1
    assert len(hub.asked(WEIGHTS)) == 2
    assert not cache.blob(WEIGHTS).exists()
    assert not cache.part(WEIGHTS).exists()
    assert not cache.placed(WEIGHTS).exists()


def test_a_blob_of_another_size_is_replaced(download: Run, hub: Hub, cache: Cache) -> None:
    download()
    os.truncate(cache.blob(WEIGHTS), 5)
    assert download().status == 0
    assert cache.is_whole()


def test_without_symlinks_copies_are_whole_too(
    download: Run, hub: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    assert download().status == 0
    assert not cache.placed(WEIGHTS).is_symlink()
    sent = hub.sent()
    assert download().status == 0
    assert hub.sent() == sent
    assert cache.is_whole()
    os.truncate(cache.placed(WEIGHTS), 5)
    assert download().status == 0
    assert cache.is_whole()


def test_progress_counts_parts_and_what_is_here(download: Run, hub: Hub, cache: Cache) -> None:
    download()
    hub.files["second.safetensors"] = bytes(range(250)) * 2400
    cache.part("second.safetensors").write_bytes(hub.files["second.safetensors"][:300_000])
    seconds = count(0, 1000)
    outcome = download(clock=lambda: float(next(seconds)))
    lines = [line for line in outcome.err.splitlines() if "%" in line]
    percents = [int(line.partition("(")[2].partition("%")[0]) for line in lines]
    assert percents == sorted(percents)
    assert percents[0] >= 66
    assert lines[-1].startswith("dgx-vllm: 0.0009 GB of 0.0009 GB (100%)")


def test_two_names_of_one_content_are_fetched_once(download: Run, hub: Hub, cache: Cache) -> None:
    hub.files["twin.safetensors"] = hub.files[WEIGHTS]
    assert download().status == 0
    assert len(hub.asked(WEIGHTS)) + len(hub.asked("twin.safetensors")) == 1
    assert cache.is_whole()


def test_an_empty_file_is_downloaded(download: Run, hub: Hub, cache: Cache) -> None:
    hub.files["empty.txt"] = b""
    assert download().status == 0
    assert cache.is_whole()


def test_other_formats_are_not_fetched(download: Run, hub: Hub, cache: Cache) -> None:
    hub.files["pytorch_model.bin"] = b"the same in another format"
    assert download().status == 0
    assert hub.asked("pytorch_model.bin") == []


def test_a_link_that_fails_is_made_later(download: Run, hub: Hub, cache: Cache) -> None:
    hub.head = [(404, "EntryNotFound", "gone")]
    outcome = download()
    assert outcome.status == 1
    assert "changed on the hub" in outcome.err
    sent = hub.sent()
    assert download().status == 0
    assert hub.sent() == sent


def test_with_xet_huggingface_hub_downloads_and_the_hash_still_counts(
    download: Run, hub: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.fails(WEIGHTS, Behaviour(corrupt=True))
    outcome = download()
    assert outcome.status == 0
    assert cache.is_whole()
    assert len(hub.asked(WEIGHTS)) == 2
    assert "enables Xet" in outcome.err
    assert download().status == 0
    assert len(hub.asked(WEIGHTS)) == 2


def test_a_commit_needs_no_ref(download: Run, cache: Cache) -> None:
    assert download(revision=COMMIT).status == 0
    assert not (cache.folder / "refs").exists()


def test_a_profile_by_its_name(download: Run, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Profile(model=MODEL, summary="", memory_gib=1.0, name="mine")
    monkeypatch.setattr("dgx_vllm.profiles.profile.builtin", lambda: (mine,))
    assert download("mine").status == 0
    assert cache.is_whole()


@pytest.mark.parametrize("model", ["demo", ".", "s3://bucket/model"])
def test_a_model_that_is_not_on_the_hub_needs_no_download(
    download: Run, hub: Hub, cache: Cache, model: str
) -> None:
    outcome = download(model)
    assert outcome.status == 0
    assert outcome.out == f"dgx-vllm: {model} is not on the Hugging Face hub: nothing to download\n"
    assert not cache.directory.exists()
    assert hub.listings == 0


# --- a hub that cannot be asked -----------------------------------------------------------------------


def test_a_whole_model_does_not_wait_for_the_network(download: Run, hub: Hub, cache: Cache) -> None:
    download()
    hub.listing = [DOWN] * 20
    outcome = download()
    assert outcome.status == 0
    assert outcome.slept == []
    assert "the hub cannot be asked (the hub answers 503)" in outcome.err
    assert str(cache.placed("")) in outcome.out


def test_a_whole_model_is_left_as_it_is_where_that_is_asked_for(
    download: Run, hub: Hub, cache: Cache
) -> None:
    """A boot must not bring a model that nobody chose: what a unit downloads is what was missing."""
    hub.files["modules.json"] = b'[{"idx": 0}]'  # as sentence-transformers have it
    assert download(if_missing=True).status == 0
    asked = len(hub.requests)
    outcome = download(if_missing=True)
    assert (outcome.status, len(hub.requests), hub.listings) == (0, asked, 1)
    assert str(cache.placed("")) in outcome.out


def test_half_a_model_is_missing(download: Run, hub: Hub, cache: Cache) -> None:
    download()
    cache.placed(WEIGHTS).unlink()
    cache.blob(WEIGHTS).unlink()
    assert download(if_missing=True).status == 0
    assert cache.is_whole()


def test_a_whole_model_does_not_hide_a_refusal(download: Run, hub: Hub) -> None:
    download()
    hub.listing = [WRONG_TOKEN]
    assert download().status == 2


def test_half_a_model_does_wait(download: Run, hub: Hub, cache: Cache) -> None:
    download()
    os.truncate(cache.blob(WEIGHTS), 5)
    hub.listing = [DOWN]
    outcome = download()
    assert outcome.slept == [5]
    assert cache.is_whole()


def test_offline(download: Run, hub: Hub, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    outcome = download()
    assert outcome.status == 1
    assert "HF_HUB_OFFLINE forbids" in outcome.err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    download()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert download().status == 0


def test_no_hub_at_all(download: Run, cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    outcome = download()
    assert outcome.status == 1
    assert "ConnectError" in outcome.err
    assert len(outcome.slept) == ATTEMPTS - 1
