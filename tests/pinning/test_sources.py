"""Which of a machine's apt sources are asked for Debian's packages."""

from subprocess import CompletedProcess

import pytest

from pinning import apt, child
from pinning.apt import Source, sources
from pinning.failure import UserError

MAIN = "http://mirror.test/debian/"
SECURE = "http://mirror.test/debian-security/"
# As `apt-get indextargets` gives them: URI, suite, component, origin.
BOOKWORM = (MAIN, "bookworm", "main", "Debian")
UPDATES = (MAIN, "bookworm-updates", "main", "Debian")
SECURITY = (SECURE, "bookworm-security", "main", "Debian")
FOREIGN = ("https://packages.test/stable/debian/", "bookworm", "main", "Somebody")
TRIXIE = ("mirror+file:/etc/apt/mirrors/debian.list/", "trixie", "main", "Debian")
OLDSTABLE = (MAIN, "oldstable", "main", "Debian")
CONTRIB = ("http://elsewhere.test/debian/", "bookworm", "contrib", "Debian")
UBUNTU = ("http://mirror.test/ubuntu/", "noble", "main", "Ubuntu")


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)


def have(monkeypatch: pytest.MonkeyPatch, *rows: tuple[str, ...], updated: bool = True) -> None:
    """Let the machine's apt have these sources, and their release files if it was `updated`."""

    def run(command: list[str]) -> CompletedProcess[str]:
        if "--no-release-info" in command:
            lines = ["\t".join([*row[:3], "$(ORIGIN)"]) for row in rows]
        else:
            lines = ["\t".join(row) for row in rows if updated]
        return CompletedProcess(command, 0, "\n".join(lines), "")

    monkeypatch.setattr(child, "run", run)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([BOOKWORM, UPDATES, SECURITY], [Source(MAIN, "bookworm")]),
        ([CONTRIB, BOOKWORM], [Source(MAIN, "bookworm")]),
        ([FOREIGN, BOOKWORM], [Source(MAIN, "bookworm")]),
        ([TRIXIE], [Source(TRIXIE[0], "bookworm")]),
        ([TRIXIE, BOOKWORM], [Source(MAIN, "bookworm")]),
        ([OLDSTABLE], [Source(MAIN, "bookworm")]),
    ],
)
def test_debians_own_sources_are_asked(
    monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, ...]], found: list[Source]
) -> None:
    have(monkeypatch, *rows)
    assert sources("bookworm", security=False) == found


def test_a_machine_that_was_never_updated_has_sources_too(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, UBUNTU, BOOKWORM, updated=False)
    assert sources("bookworm", security=False) == [Source(MAIN, "bookworm")]


@pytest.mark.parametrize("rows", [[], [UBUNTU], [FOREIGN], [CONTRIB]])
def test_a_machine_without_debian_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, ...]]
) -> None:
    have(monkeypatch, *rows)
    with pytest.raises(UserError, match="no Debian source for bookworm: set DGX_VLLM_DEBIAN_MIRROR to"):
        sources("bookworm", security=False)


@pytest.mark.parametrize(
    "rows",
    [
        [BOOKWORM, SECURITY],
        [(MAIN, "trixie", "main", "Debian"), (SECURE, "trixie-security", "main", "Debian")],
    ],
)
def test_the_security_archive_is_asked_where_wanted(
    monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, ...]]
) -> None:
    have(monkeypatch, *rows)
    wanted = [Source(MAIN, "bookworm"), Source(SECURE, "bookworm-security")]
    assert sources("bookworm", security=True) == wanted


def test_a_machine_without_the_security_archive_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, BOOKWORM)
    with pytest.raises(UserError, match="no source for bookworm-security: add it, or set"):
        sources("bookworm", security=True)


@pytest.mark.parametrize("value", ["http://named.test/debian", "http://named.test/debian/"])
def test_a_named_mirror_is_asked_and_nothing_else(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    have(monkeypatch, BOOKWORM, SECURITY)
    monkeypatch.setenv(apt.MIRROR_VARIABLE, value)
    assert sources("bookworm", security=False) == [Source("http://named.test/debian/", "bookworm")]
    assert sources("bookworm", security=True)[1:] == [
        Source("http://named.test/debian-security/", "bookworm-security")
    ]
