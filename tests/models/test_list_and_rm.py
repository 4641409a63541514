"""`list` and `rm`: what is in the caches, and what may be taken away."""

import fcntl
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dgx_vllm.launch.process.registry import Entry, Registration
from dgx_vllm.models import inventory
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.running import systemd
from dgx_vllm.running.systemd import Unit

Run = Callable[..., tuple[int, str, str]]
COMMIT = "c" * 40
PROFILE = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"


class Answer(io.StringIO):
    """A terminal on which somebody types."""

    def isatty(self) -> bool:
        return True


def put(hub: Path, name: str, size: int, shared: str | None = None) -> Path:
    """A model of one file, in the store that models share where a hash is given."""
    folder = hub / f"models--{name.replace('/', '--')}"
    blob, placed = folder / "blobs" / "0", folder / "snapshots" / COMMIT / "model.safetensors"
    for path in (blob, placed, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    if shared:
        store = hub / "blobs" / shared[:2] / shared
        store.parent.mkdir(parents=True, exist_ok=True)
        (hub / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
        store.write_bytes(bytes(size))
        with (store.parent / f"{shared}.refs").open("a") as manifest:
            manifest.write(f"{blob.relative_to(hub)}\n")
        blob.symlink_to(os.path.relpath(store, blob.parent))
    else:
        blob.write_bytes(bytes(size))
    placed.symlink_to("../../blobs/0")
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.fixture(autouse=True)
def no_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inventory, "_SERVICES", tmp_path / "none")
    monkeypatch.setattr(systemd, "found", lambda environ: [])


@pytest.fixture
def hub(environment: dict[str, str]) -> Path:
    return Path(environment["HF_HOME"]) / "hub"


@pytest.fixture
def serving(environment: dict[str, str]) -> Iterator[Callable[..., None]]:
    made = []

    def serve(*uses: str) -> None:
        entry = Entry(
            pid=os.getpid(),
            host=os.uname().nodename,
            model=uses[0],
            uses=uses,
            url="http://127.0.0.1:8888",
            started=1.0,
        )
        made.append(Registration(entry, environment))

    yield serve
    for each in made:
        each.close()


def listed(run: Run, *words: str) -> dict[str, dict[str, object]]:
    status, out, _ = run("list", "--json", *words)
    assert status == 0
    return {each["name"]: each for each in json.loads(out)}


def test_nothing_is_here(run: Run, hub: Path) -> None:
    assert run("list") == (0, f"there is no model in {hub}; fetch one: dgx-vllm download MODEL\n", "")
    assert run("list", "--json") == (0, "[]\n", "")
    status, _, err = run("rm", "org/a", "--yes")
    assert status == 1
    assert "org/a is not downloaded; dgx-vllm list shows what is" in err


def test_models_with_size_use_and_profile(run: Run, hub: Path, serving: Callable[..., None]) -> None:
    put(hub, PROFILE, 3_000_000)
    put(hub, "org/b", 1_000_000)
    used = time.time() - 3 * 86400
    os.utime(hub / "models--org--b" / "blobs" / "0", (used, used))
    serving("demo", "org/b")
    found = listed(run)
    known = profile.by_model(PROFILE)
    assert known is not None
    assert (found[PROFILE]["profile"], found[PROFILE]["size"]) == (known.name, 3_000_000)
    assert (found["org/b"]["profile"], found["org/b"]["servers"]) == (None, ["8888"])
    assert found["org/b"]["used"] == pytest.approx(used)
    assert found["org/b"]["commits"] == [COMMIT]
    out = run("list")[1]
    assert f"{hub}: 0.004 GB in 2 models" in out
    assert [
        line
        for line in out.splitlines()
        if "org/b" in line and "3 d ago" in line and "in use by 8888" in line
    ]


def test_a_model_that_is_not_whole(run: Run, hub: Path) -> None:
    (put(hub, "org/part", 10) / "blobs" / "1.incomplete").write_bytes(bytes(5))
    (put(hub, "org/gone", 10) / "blobs" / "0").unlink()
    (put(hub, "org/lost", 10) / "refs" / "main").write_text("d" * 40)
    found = listed(run)
    assert found["org/part"]["missing"] == "its download is incomplete"
    assert found["org/gone"]["missing"] == "a file is gone"
    assert found["org/lost"]["missing"] == "main names a commit that has not been downloaded"
    for name in found:
        assert run("rm", name, "--yes")[0] == 0
    assert listed(run) == {}


def test_a_file_that_other_models_share_stays(run: Run, hub: Path) -> None:
    digest = "ab" * 32
    put(hub, "org/a", 1000, shared=digest)
    put(hub, "org/b", 1000, shared=digest)
    store = hub / "blobs" / "ab" / digest
    status, out, _ = run("rm", "org/a", "--yes")
    assert status == 0
    assert "are shared with other models" in out
    assert store.exists()
    assert (hub / "models--org--b" / "snapshots" / COMMIT / "model.safetensors").read_bytes() == bytes(1000)
    assert run("rm", "org/b", "--yes")[0] == 0
    assert not store.exists()


@pytest.mark.parametrize(
    ("typed", "gone"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_rm_asks_before_it_removes(
    run: Run, hub: Path, monkeypatch: pytest.MonkeyPatch, typed: str, gone: bool
) -> None:
    folder = put(hub, "org/a", 1000)
    monkeypatch.setattr(sys, "stdin", Answer(typed))
    status, out, _ = run("rm", "org/a")
    assert "Remove it? [y/N]" in out
    assert (status, folder.exists()) == (0 if gone else 1, not gone)


def test_where_nobody_can_be_asked_it_wants_yes(run: Run, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(hub, "org/a", 1000)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    status, _, err = run("rm", "org/a")
    assert status == 2
    assert "give --yes" in err
    assert folder.exists()


@pytest.mark.parametrize("use", ["org/a", "{hub}/models--org--a/snapshots/" + COMMIT])
def test_what_a_server_uses_stays(run: Run, hub: Path, serving: Callable[..., None], use: str) -> None:
    folder, other = put(hub, "org/a", 1000), put(hub, "org/b", 1000)
    serving("org/c", use.format(hub=hub))
    status, _, err = run("rm", "org/b", "org/a", "--yes")
    assert status == 1
    assert "org/a is in use by 8888; stop it first: dgx-vllm stop 8888" in err
    assert folder.exists()
    assert other.exists()  # of several, none is removed where one cannot be


def test_a_profiles_name_means_its_model(run: Run, hub: Path, serving: Callable[..., None]) -> None:
    known = profile.by_model(PROFILE)
    assert known is not None
    folder = put(hub, PROFILE, 1000)
    serving(known.name)
    assert f"{PROFILE} is in use" in run("rm", known.name, "--yes")[2]
    assert folder.exists()
    assert "comes with dgx-vllm" in run("rm", "demo", "--yes")[2]


def test_what_is_being_downloaded_stays(run: Run, hub: Path) -> None:
    folder = put(hub, "org/a", 1000)
    lock = hub / ".locks" / "models--org--a" / "0.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, _, err = run("rm", "org/a", "--yes")
    assert (status, folder.exists()) == (1, True)
    assert "org/a is being downloaded" in err
    assert run("rm", "org/a", "--yes")[0] == 0
    assert not lock.parent.exists()


def test_a_misspelt_name_gets_a_suggestion(run: Run, hub: Path) -> None:
    put(hub, "org/model", 10)
    assert "did you mean org/model?" in run("rm", "org/modle", "--yes")[2]


def test_a_services_cache_is_listed_and_its_model_kept(
    run: Run, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(hub, "org/a", 10)
    theirs = tmp_path / "service" / "hub"
    folder = put(theirs, "org/a", 20)
    properties = {
        "Id": "dgx-vllm-main.service",
        "ActiveState": "active",
        "ExecStart": "{ path=/x ; argv[]=/x/dgx-vllm serve org/a ; ignore_errors=no }",
        "Environment": f"HF_HOME={theirs.parent}",
    }
    monkeypatch.setattr(systemd, "found", lambda environ: [Unit(properties, False)])
    rows = json.loads(run("list", "--json")[1])
    assert [(each["cache"], each["servers"]) for each in rows] == [(str(hub), []), (str(theirs), ["main"])]
    assert "choose one with --cache DIRECTORY" in run("rm", "org/a", "--yes")[2]
    assert "in use by main" in run("rm", "org/a", "--yes", "--cache", theirs)[2]
    assert folder.exists()
    assert run("rm", "org/a", "--yes", "--cache", hub)[0] == 0
    assert list(listed(run)) == ["org/a"]


def test_a_service_that_is_stopped_is_named(run: Run, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(hub, "org/a", 10)
    properties = {
        "Id": "dgx-vllm-main.service",
        "ActiveState": "inactive",
        "ExecStart": "{ path=/x ; argv[]=/x/dgx-vllm serve org/a ; ignore_errors=no }",
    }
    monkeypatch.setattr(systemd, "found", lambda environ: [Unit(properties, False)])
    assert (listed(run)["org/a"]["servers"], listed(run)["org/a"]["services"]) == ([], ["main"])
    status, out, _ = run("rm", "org/a", "--yes")
    assert status == 0
    assert "the service main is not running now; its next start will need org/a again" in out


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", "org/draft"),
        ("--speculative-config null ", None),
        ('--speculative-config {"model":"org/other","revision":"v1"} ', "org/other"),
    ],
)
def test_the_draft_model_of_a_service_is_in_use(
    run: Run, hub: Path, monkeypatch: pytest.MonkeyPatch, words: str, kept: str | None
) -> None:
    serve = {"speculative-config": {"method": "eagle3", "num_speculative_tokens": 2, "model": "org/draft"}}
    mine = Profile(model="org/a", summary="", memory_gib=1, name="mine", serve=serve)
    monkeypatch.setattr(profile, "builtin", lambda: (mine,))
    for name in ("org/a", "org/draft", "org/other"):
        put(hub, name, 10)
    units = {"main": "serve org/a", "main-download": f"download --if-missing {words}org/a"}
    properties = [
        {
            "Id": f"dgx-vllm-{name}.service",
            "ActiveState": "active",
            "ExecStart": f"{{ path=/x ; argv[]=/x/dgx-vllm {command} ; ignore_errors=no }}",
        }
        for name, command in units.items()
    ]
    monkeypatch.setattr(systemd, "found", lambda environ: [Unit(each, False) for each in properties])
    used = {name for name, row in listed(run).items() if row["servers"] == ["main"]}
    assert used == {"org/a"} | ({kept} if kept else set())
    for name in ("org/draft", "org/other"):
        assert run("rm", name, "--yes")[0] == (1 if name == kept else 0)


def test_a_cache_that_is_not_there(run: Run, tmp_path: Path) -> None:
    assert "there is no such directory" in run("list", "--cache", tmp_path / "no")[2]
