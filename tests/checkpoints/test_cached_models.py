"""What is in a Hugging Face cache: sizes, last use, and what huggingface_hub itself says of the same."""

import hashlib
import os
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from dgx_vllm.checkpoints import hf_cache

COMMIT, OTHER = "a" * 40, "b" * 40


def put(
    hub: Path,
    name: str,
    file: str,
    content: bytes,
    commit: str = COMMIT,
    shared: bool = False,
) -> Path:
    """A file as huggingface_hub 2.4 lays it: a link to a blob, which may be a link into the shared store."""
    folder = hub / f"models--{name.replace('/', '--')}"
    digest = hashlib.sha256(content).hexdigest()
    blob = folder / "blobs" / digest
    blob.parent.mkdir(parents=True, exist_ok=True)
    if shared:
        store = hub / "blobs" / digest[:2] / digest
        store.parent.mkdir(parents=True, exist_ok=True)
        (hub / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
        store.write_bytes(content)
        with (store.parent / f"{digest}.refs").open("a") as manifest:
            manifest.write(f"{blob.relative_to(hub)}\n")
        blob.unlink(missing_ok=True)
        blob.symlink_to(os.path.relpath(store, blob.parent))
    else:
        blob.write_bytes(content)
    placed = folder / "snapshots" / commit / file
    placed.parent.mkdir(parents=True, exist_ok=True)
    placed.symlink_to(os.path.relpath(blob, placed.parent))
    return placed


def name(hub: Path, model: str, reference: str, commit: str) -> None:
    path = hub / f"models--{model.replace('/', '--')}" / "refs" / reference
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(commit)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def test_no_cache_holds_nothing(hub: Path) -> None:
    assert hf_cache.models(hub) == ()
    assert hf_cache.size(hub) == 0


@pytest.mark.parametrize("shared", [False, True], ids=["own blobs", "shared blobs"])
def test_sizes_and_revisions_are_those_of_huggingface_hub(hub: Path, shared: bool) -> None:
    put(hub, "org/a", "model.safetensors", b"x" * 1000, shared=shared)
    put(hub, "org/a", "config.json", b"{}")
    put(hub, "org/b", "deep/model.safetensors", b"y" * 500, shared=shared)
    for model, reference in (
        ("org/a", "main"),
        ("org/a", "refs/pr/1"),
        ("org/b", "main"),
    ):
        name(hub, model, reference, COMMIT)
    theirs = {repo.repo_id: repo for repo in scan_cache_dir(hub).repos}
    ours = {model.name: model for model in hf_cache.models(hub)}
    assert ours.keys() == theirs.keys() == {"org/a", "org/b"}
    for model, found in ours.items():
        assert found.size == theirs[model].size_on_disk
        assert found.used >= theirs[model].last_accessed
        assert {ref for each in found.snapshots for ref in each.refs} == theirs[model].refs.keys()
        assert found.lost == ()
    assert hf_cache.size(hub) == scan_cache_dir(hub).size_on_disk == 1502


def test_what_two_models_share_counts_once_and_is_freed_by_the_last(hub: Path) -> None:
    for model in ("org/a", "org/b"):
        put(hub, model, "model.safetensors", b"x" * 1000, shared=True)
        put(hub, model, "config.json", model.encode())
        name(hub, model, "main", COMMIT)
    first, _ = hf_cache.models(hub)
    assert (first.size, first.freed, hf_cache.size(hub)) == (1005, 5, 1010)
    hf_cache.remove(first)
    (left,) = hf_cache.models(hub)
    assert (left.name, left.size, left.freed) == ("org/b", 1005, 1005)
    hf_cache.remove(left)
    assert hf_cache.models(hub) == ()
    assert not [path for path in hub.rglob("*") if path.is_file() and path.stat().st_size > 100]


def test_last_use_is_the_last_reading_or_writing(hub: Path) -> None:
    placed = put(hub, "org/a", "config.json", b"{}")
    os.utime(placed, (2_000_000_000, 1_000_000_000))
    assert hf_cache.models(hub)[0].used == 2_000_000_000


def test_incomplete_files_count_into_a_models_size(hub: Path) -> None:
    put(hub, "org/a", "config.json", b"{}")
    (hub / "models--org--a" / "blobs" / f"{'0' * 64}.incomplete").write_bytes(b"z" * 70)
    (model,) = hf_cache.models(hub)
    assert (model.size, model.partial) == (72, 70)


def test_copies_on_a_disk_without_links_count(hub: Path) -> None:
    placed = hub / "models--org--a" / "snapshots" / COMMIT / "config.json"
    placed.parent.mkdir(parents=True)
    placed.write_bytes(b"{}")
    assert hf_cache.models(hub)[0].size == 2


def test_a_damaged_model_is_listed_though_huggingface_hub_skips_it(hub: Path) -> None:
    placed = put(hub, "org/a", "model.safetensors", b"x" * 1000, shared=True)
    put(hub, "org/a", "config.json", b"{}")
    name(hub, "org/a", "main", OTHER)
    placed.resolve().unlink()
    assert scan_cache_dir(hub).repos == frozenset()
    (model,) = hf_cache.models(hub)
    assert model.lost == ("main",)
    assert model.snapshots[0].dangling == ("model.safetensors",)
    assert model.size == 2
    hf_cache.remove(model)
    assert not model.folder.exists()


@pytest.mark.parametrize("revision", [None, "main", "v1", "refs/pr/1", COMMIT, OTHER, "nope"], ids=str)
@pytest.mark.parametrize("main", [COMMIT, OTHER, f"{COMMIT}\n"])
def test_a_revision_is_found_where_huggingface_hub_finds_it_offline(
    hub: Path, revision: str | None, main: str
) -> None:
    """A `main` that names a commit that has not been downloaded is not here, whatever lies next to it."""
    put(hub, "org/a", "config.json", b"{}")
    for reference, commit in (("main", main), ("v1", COMMIT), ("refs/pr/1", OTHER)):
        name(hub, "org/a", reference, commit)
    try:
        theirs: str | None = snapshot_download(
            "org/a", revision=revision, cache_dir=hub, local_files_only=True
        )
    except LocalEntryNotFoundError:
        theirs = None
    ours = hf_cache.snapshot(hub, "org/a", revision)
    assert (str(ours) if ours else None) == theirs
    assert (ours is None) == (hf_cache.others(hub, "org/a", revision) != ())
