"""`update` puts every pin in place or none."""

import json
import tomllib
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from pinning import apt, child, debian, update, uv
from pinning.failure import UserError
from pinning.pins import Pin

NIX_STORE_HASH = "1" * 64
RECORD = {
    "Package": "libfoo",
    "Version": "1-1",
    "Filename": "pool/main/f/foo/libfoo_1-1_amd64.deb",
    "SHA256": "a" * 64,
    "Size": "10",
}
LOCK = """
[[package]]
name = "thing"
version = "2.0"
source = {{ registry = "the index" }}
wheels = [{{ url = "x/thing-2.0-py3-none-any.whl"{fields} }}]
"""
HASH, SIZE = f', hash = "sha256:{"b" * 64}"', ", size = 20"


class Registries:
    """apt and uv, as they would answer."""

    def __init__(self) -> None:
        self.record = dict(RECORD)
        self.lock = LOCK.format(fields=HASH + SIZE)

    def constraints(self) -> list[str]:
        """Those of the last resolution."""
        found: list[str] = self.request["tool"]["uv"]["constraint-dependencies"]
        return found

    def run(self, command: list[str], *, cwd: Path | None = None, **_: object) -> CompletedProcess[str]:
        output = ""
        if command[:2] == ["apt-get", "indextargets"]:
            output = "http://mirror.test/debian/\tbookworm\tmain\tDebian"
        elif command[:2] == ["apt-get", "install"]:
            output = "Inst libfoo (1-1 Debian:12 [amd64])"
        elif command[:2] == ["apt-cache", "show"]:
            output = "\n".join(f"{key}: {value}" for key, value in self.record.items())
        elif command[:2] == ["uv", "lock"]:
            assert cwd
            (cwd / "uv.lock").write_text(self.lock)
            self.request = tomllib.loads((cwd / "pyproject.toml").read_text())
        elif command[:2] == ["uv", "export"]:
            output = "thing==2.0"
        return CompletedProcess(command, 0, output, "")


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Registries:
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)
    found = Registries()
    monkeypatch.setattr(child, "run", found.run)
    monkeypatch.setattr(debian, "_seed_hash", lambda *_: NIX_STORE_HASH)
    return found


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nix/pins of a checkout, which is the working directory."""
    directory = tmp_path / "nix/pins"
    directory.mkdir(parents=True)
    (directory / "debian.toml").write_text(
        'suite = "bookworm"\nseed = "libfoo"\nwithout = []\n[groups]\nbase = ["libfoo"]\n'
    )
    (directory / "pyproject.toml").write_text('[dependency-groups]\ncpu = ["thing"]\n')
    for kind in ("debian", "pypi"):
        (directory / f"{kind}.json").write_text(json.dumps({"files": {}, "before": kind}))
    monkeypatch.chdir(tmp_path)
    return directory


def content(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_what_the_registries_answer_is_written(registries: Registries, pins: Path) -> None:
    assert update.main([]) == 0
    debs, wheels = (json.loads((pins / f"{kind}.json").read_text()) for kind in ("debian", "pypi"))
    assert debs["files"][RECORD["Filename"]]["sha256"] == RECORD["SHA256"]
    assert debs["seed"]["aarch64-linux"] == {"file": RECORD["Filename"], "sha256": NIX_STORE_HASH}
    assert wheels["files"]["thing-2.0-py3-none-any.whl"]["size"] == 20
    assert set(wheels["groups"]["cpu"]) == {"x86_64-linux", "aarch64-linux"}


def test_a_package_of_one_architecture_is_asked_for_there_alone(registries: Registries, pins: Path) -> None:
    request = (pins / "debian.toml").read_text()
    (pins / "debian.toml").write_text(request + 'cross = ["libfoo [amd64]"]\n')
    assert update.main([]) == 0
    groups = json.loads((pins / "debian.json").read_text())["groups"]
    assert set(groups["base"]) == {"aarch64-linux", "x86_64-linux"}
    assert groups["cross"] == {"aarch64-linux": [], "x86_64-linux": [RECORD["Filename"]]}


def test_a_dry_run_writes_nothing(registries: Registries, pins: Path) -> None:
    before = content(pins)
    assert update.main(["--dry-run"]) == 0
    assert content(pins) == before


def test_what_is_pinned_is_kept_when_asked(registries: Registries, pins: Path) -> None:
    """uv is asked for the versions at hand, and for anything where it is not asked to keep them."""
    (pins / "pyproject.toml").write_text(
        '[dependency-groups]\ncpu = ["thing"]\n[tool.uv]\nconstraint-dependencies = [\n  "other>=1",\n]\n'
    )
    assert update.main([]) == 0
    assert registries.constraints() == ["other>=1"]
    assert update.main(["--keep"]) == 0
    assert registries.constraints() == ["thing==2.0", "other>=1"]


@pytest.mark.parametrize(("words", "security"), [([], False), (["--keep"], True), (["--security"], True)])
def test_what_the_security_archive_has_mended_stays_mended(
    registries: Registries, pins: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], security: bool
) -> None:
    entry = {"name": "openssl", "version": "3-1+deb12u1"}
    (pins / "debian.json").write_text(json.dumps({"files": {"pool/updates/main/o/openssl/o.deb": entry}}))
    asked: list[bool] = []
    resolve = debian.resolve

    def recorded(request: Path, *, security: bool) -> debian.Resolution:
        asked.append(security)
        return resolve(request)

    monkeypatch.setattr(debian, "resolve", recorded)
    assert update.main([*words, "--dry-run"]) == 0
    assert asked == [security]


@pytest.mark.parametrize("field", ["SHA256", "Size", "Filename"])
def test_a_package_without_its_hash_leaves_all_pins_as_they_were(
    registries: Registries, pins: Path, field: str
) -> None:
    before = content(pins)
    del registries.record[field]
    with pytest.raises(UserError, match=f"gives no '{field}' for libfoo: nothing was written"):
        update.main([])
    assert content(pins) == before


@pytest.mark.parametrize("fields", [SIZE, HASH, f'{SIZE}, hash = "md5:00"'])
def test_a_wheel_without_its_hash_leaves_all_pins_as_they_were(
    registries: Registries, pins: Path, fields: str
) -> None:
    before = content(pins)
    registries.lock = LOCK.format(fields=fields)
    with pytest.raises(UserError, match="no SHA-256 and size for thing-"):
        update.main([])
    assert content(pins) == before


def test_a_seed_that_cannot_be_hashed_leaves_all_pins_as_they_were(
    registries: Registries, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> str:
        raise UserError("this machine has no nix-hash")

    monkeypatch.setattr(debian, "_seed_hash", fails)
    before = content(pins)
    with pytest.raises(UserError, match="nix-hash"):
        update.main([])
    assert content(pins) == before


def test_a_disk_that_fills_leaves_all_pins_as_they_were(
    registries: Registries, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(pins)
    write_text = Path.write_text

    def fills(path: Path, text: str) -> int:
        if path.name == "pypi.json.new":
            raise OSError(28, "No space left on device", str(path))
        return write_text(path, text)

    monkeypatch.setattr(Path, "write_text", fills)
    with pytest.raises(OSError, match="No space left"):
        update.main([])
    assert content(pins) == before


def test_the_wheel_taken_is_the_best_for_the_machine() -> None:
    def wheel(tag: str) -> dict[str, object]:
        return {"url": f"x/thing-2.0-{tag}.whl", "hash": f"sha256:{'b' * 64}", "size": 1}

    tags = ["py3-none-any", "cp311-cp311-manylinux_2_17_aarch64", "cp311-cp311-manylinux_2_40_aarch64"]
    package = {"name": "thing", "version": "2.0", "wheels": [wheel(tag) for tag in tags]}
    best = uv._wheel(package, "aarch64-linux")
    assert best == Pin(
        "pypi", "thing-2.0-cp311-cp311-manylinux_2_17_aarch64.whl", "thing", "2.0", "b" * 64, 1
    )
    assert uv._wheel(package, "x86_64-linux").file == "thing-2.0-py3-none-any.whl"
