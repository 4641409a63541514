"""A private apt: the machine's sources and proxies, with state of our own, for any architecture.

The machine's own lists, cache and package state are only ever read.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote

from pinning import child
from pinning.failure import UserError, remedy

# A machine without Debian sources (Ubuntu, NixOS with apt at hand) names a mirror of mirror://debian here.
MIRROR_VARIABLE = "DGX_VLLM_DEBIAN_MIRROR"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# apt asks an archive for two release files: one that does not answer is given up after four of these.
TIMEOUT_SECONDS = 15
UPDATE_RETRIES = 1
DOWNLOAD_RETRIES = 3


@dataclass(frozen=True)
class Source:
    uri: str
    suite: str

    @property
    def shown(self) -> str:
        """The address as it may be printed: without the credentials that a URI can hold."""
        return re.sub(r"//[^/@]*@", "//", self.uri)


def _targets(*options: str) -> set[tuple[str, ...]]:
    """(URI, suite, component, origin) of the machine's package indexes, whatever format names them."""
    fields = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)"
    done = child.run(["apt-get", "indextargets", "--format", fields, *options, "Created-By: Packages"])
    return {tuple(line.split("\t")) for line in done.stdout.splitlines() if line.count("\t") == 3}


def _machine_sources() -> list[Source]:
    """The machine's own sources of Debian's main component."""
    known = _targets()
    rows = {row[:3] for row in known if row[3] == "Debian"}
    if not rows:
        # Who an archive is stands in its release file, which a machine that was never updated does not have.
        unknown = _targets("--no-release-info")
        rows = {row[:3] for row in unknown if "debian" in row[0]} - {row[:3] for row in known}
    return [Source(uri, suite) for uri, suite, component in sorted(rows) if component == "main"]


def sources(codename: str, *, security: bool) -> list[Source]:
    """Where the machine finds `codename`'s packages, and with `security` the security archive's too.

    Raises UserError where it has no source of Debian's.
    """
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    suite = f"{codename}-security"
    if mirror:
        # Servers that carry both archives have the security archive next to the main one.
        beside = [Source(f"{mirror.rpartition('/')[0]}/debian-security/", suite)]
        return [Source(f"{mirror}/", codename), *(beside if security else [])]
    machine = _machine_sources()
    found = _of(codename, machine)
    if not found:
        raise UserError(
            f"this machine's apt has no Debian source for {codename}: "
            f"set {MIRROR_VARIABLE} to a Debian mirror's URL, then run this again"
        )
    if security:
        secure = _of(suite, machine)
        if not secure:
            raise UserError(
                f"this machine's apt has no source for {suite}: "
                f"add it, or set {MIRROR_VARIABLE} to a Debian mirror's URL, then run this again"
            )
        found += secure
    return found


def _of(suite: str, machine: list[Source]) -> list[Source]:
    """The sources of `suite`, or where it would be, next to another release that this machine has."""
    kind = suite.partition("-")[2]
    alike = [source for source in machine if source.suite.partition("-")[2] == kind]
    return [source for source in alike if source.suite == suite] or [
        Source(source.uri, suite) for source in alike[:1]
    ]


class PrivateApt:
    """apt for one architecture (`amd64`, `arm64`) in a directory of its own.

    A context manager: the directory goes when it ends. `update` must come before anything else. With `pinned`
    the archive's signature is not asked for: who fetches a pinned file holds it against its own SHA-256, and
    keys expire, are missing on other distributions, and differ if a mirror signs again.
    """

    def __init__(
        self, codename: str, architecture: str, *, security: bool = False, pinned: bool = False
    ) -> None:
        self.codename = codename
        self.architecture = architecture
        self._sources = sources(codename, security=security)
        self._pinned = pinned
        self._directory = tempfile.TemporaryDirectory(prefix="dgx-vllm-apt-")
        self._configure(Path(self._directory.name))

    def __enter__(self) -> PrivateApt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.cleanup()

    def _configure(self, root: Path) -> None:
        for folder in ("state/lists/partial", "cache/archives/partial", "etc", "tmp"):
            (root / folder).mkdir(parents=True)
        (root / "state/status").touch()
        if self._pinned:
            trust = " trusted=yes check-valid-until=no"
        else:
            # Elsewhere than on Debian the keyring may be missing; then apt's own trusted keys decide.
            trust = f" signed-by={KEYRING}" if os.path.exists(KEYRING) else ""
        lines = [f"deb [arch={self.architecture}{trust}] {s.uri} {s.suite} main" for s in self._sources]
        (root / "etc/sources.list").write_text("\n".join(lines) + "\n")
        # Proxies, certificates and credentials are the machine's; hooks, state and further indexes are not.
        dump = child.run(["apt-config", "dump"]).stdout
        ours = re.compile(
            r"(Acquire(?!::(IndexTargets|Languages|Retries|\w+::Timeout))|Dir::Etc::(trusted|netrc))"
        )
        kept = [line for line in dump.splitlines() if ours.match(line)]
        settings = {
            "Dir::State": root / "state",
            "Dir::State::status": root / "state/status",
            "Dir::Cache": root / "cache",
            "Dir::Etc::sourcelist": root / "etc/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::parts": root / "etc",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": self.architecture,
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
            "APT::Install-Suggests": "false",
            "Acquire::Retries": DOWNLOAD_RETRIES,
            "Acquire::http::Timeout": TIMEOUT_SECONDS,
            "Acquire::https::Timeout": TIMEOUT_SECONDS,
            "Acquire::Languages": "none",
        }
        own = [f'{key} "{value}";' for key, value in settings.items()]
        clear = [
            "#clear APT::Architectures;",
            f'APT::Architectures {{ "{self.architecture}"; }};',
            "#clear DPkg;",
        ]
        (root / "apt.conf").write_text("\n".join([*kept, *own, *clear]) + "\n")
        self._environment = {
            **os.environ,
            "APT_CONFIG": str(root / "apt.conf"),
            "LC_ALL": "C",
            "TMPDIR": str(root / "tmp"),
        }

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run an apt program; returns its standard output. Raises UserError with apt's own words."""
        done = child.run(list(command), environment=self._environment, cwd=cwd)
        if done.returncode:
            lines = done.stderr.splitlines()
            said = next((line for line in lines if line.startswith("E:")), lines[0] if lines else "")
            raise UserError(
                f"{command[0]} ({self.architecture}): {said or f'exit status {done.returncode}'}; "
                f"{self._remedy(done.stderr)}"
            )
        return done.stdout

    def _remedy(self, said: str) -> str:
        if "NO_PUBKEY" in said or "is not signed" in said:
            return "install debian-archive-keyring, then run this again"
        if "No space left" in said:
            return remedy(said)
        return (
            f"check the network and `apt-get update`, or set {MIRROR_VARIABLE} to another mirror, "
            "then run this again"
        )

    def update(self) -> None:
        """Read the archive's indexes. Raises UserError where it does not answer or is not trusted."""
        retries = f"--option=Acquire::Retries={UPDATE_RETRIES}"
        self.run("apt-get", "update", "--error-on=any", "-qq", retries)

    def download(self, names_versions: list[tuple[str, str]], directory: Path) -> dict[tuple[str, str], Path]:
        """Download exactly these versions into `directory`; returns what came, under apt's names for it."""
        self.run("apt-get", "download", "-qq", *(f"{n}={v}" for n, v in names_versions), cwd=directory)
        found = {}
        for path in directory.glob("*.deb"):
            # apt writes an epoch's colon as %3a, and may name another architecture than the pool does.
            name, version, _ = path.name.split("_")
            found[name, unquote(version)] = path
        return found

    def closure(self, names: list[str]) -> list[tuple[str, str]]:
        """(name, version) of everything that installing `names` on an empty machine would install."""
        listing = self.run("apt-get", "install", "--simulate", "-qq", *names)
        found = re.findall(r"^Inst (\S+?)(?::\w+)? \((\S+) ", listing, re.MULTILINE)
        return sorted(set(found))

    def records(self, names_versions: list[tuple[str, str]]) -> list[dict[str, str]]:
        """The index's own record of each package: Package, Version, Filename, SHA256, Size (bytes)."""
        text = self.run("apt-cache", "show", "--no-all-versions", *(f"{n}={v}" for n, v in names_versions))
        paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
        return [dict(re.findall(r"^(\S+): (.*)$", paragraph, re.MULTILINE)) for paragraph in paragraphs]

    def candidates(self, names: list[str]) -> dict[str, str]:
        """The version of each package that the sources would install now; a package they lack is left out."""
        text = self.run("apt-cache", "policy", *names)
        return dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: ([^(\s]\S*)$", text, re.MULTILINE))
