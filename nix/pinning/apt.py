"""A private apt: the machine's sources and proxies, with state of our own, for any architecture.

The machine's own lists, cache and package state are only ever read.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pinning.failure import UserError

# A machine without Debian sources (Ubuntu, NixOS with apt at hand) names a mirror of mirror://debian here.
MIRROR_VARIABLE = "DGX_VLLM_DEBIAN_MIRROR"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Source:
    uri: str
    suite: str


def _machine_sources() -> list[Source]:
    """The machine's own binary sources, as apt itself reads them."""
    fields = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"],
        capture_output=True,
        text=True,
    )
    rows = {tuple(line.split("\t")) for line in done.stdout.splitlines() if line.count("\t") == 2}
    return [Source(uri, suite) for uri, suite, component in sorted(rows) if component == "main"]


def sources(codename: str, *, security: bool) -> list[Source]:
    """Where the machine finds `codename`'s packages, and with `security` the security archive's too."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    if mirror:
        found = [Source(mirror.rstrip("/") + "/", codename)]
    else:
        machine = _machine_sources()
        found = [source for source in machine if source.suite in (codename, "oldstable")]
        if not found:
            # Another Debian release's mirror carries this one too.
            found = [
                Source(source.uri, codename)
                for source in machine
                if source.uri.rstrip("/").endswith("/debian") and "-" not in source.suite
            ][:1]
        if security:
            found += [source for source in machine if source.suite == f"{codename}-security"]
    if not found:
        raise UserError(
            f"this machine's apt has no Debian source for {codename}: "
            f"set {MIRROR_VARIABLE} to a Debian mirror's URL"
        )
    return found


class PrivateApt:
    """apt for one architecture (`amd64`, `arm64`) in a directory of its own.

    A context manager: the directory goes when it ends. `update` must come before anything else.
    """

    def __init__(self, codename: str, architecture: str, *, security: bool = False) -> None:
        self.codename = codename
        self.architecture = architecture
        self._sources = sources(codename, security=security)
        self._directory = tempfile.TemporaryDirectory(prefix="dgx-vllm-apt-")
        self._configure(Path(self._directory.name))

    def __enter__(self) -> PrivateApt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.cleanup()

    def _configure(self, root: Path) -> None:
        for folder in ("state/lists/partial", "cache/archives/partial", "etc"):
            (root / folder).mkdir(parents=True)
        (root / "state/status").touch()
        # Elsewhere than on Debian the keyring may be missing; then apt's own trusted keys decide.
        signed_by = f" signed-by={KEYRING}" if os.path.exists(KEYRING) else ""
        lines = [f"deb [arch={self.architecture}{signed_by}] {s.uri} {s.suite} main" for s in self._sources]
        (root / "etc/sources.list").write_text("\n".join(lines) + "\n")
        # Proxies, certificates and credentials are the machine's; hooks and state are not.
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True).stdout
        kept = [line for line in dump.splitlines() if re.match(r"(Acquire|Dir::Etc::(trusted|netrc))", line)]
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
            "Acquire::Retries": "3",
            "Acquire::Languages": "none",
        }
        own = [f'{key} "{value}";' for key, value in settings.items()]
        clear = [
            "#clear APT::Architectures;",
            f'APT::Architectures {{ "{self.architecture}"; }};',
            "#clear DPkg;",
        ]
        (root / "apt.conf").write_text("\n".join([*kept, *own, *clear]) + "\n")
        self._environment = {**os.environ, "APT_CONFIG": str(root / "apt.conf"), "LC_ALL": "C"}

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run an apt program; returns its standard output. Raises UserError with apt's own words."""
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment, cwd=cwd)
        if done.returncode:
            words = [
                line for line in done.stderr.splitlines() if line.startswith("E:")
            ] or done.stderr.splitlines()
            said = words[0] if words else f"exit status {done.returncode}"
            raise UserError(
                f"{command[0]} ({self.architecture}): {said}; check `apt-get update`, then run this again"
            )
        return done.stdout

    def update(self) -> None:
        self.run("apt-get", "update", "--error-on=any", "-qq")

    def download(self, names_versions: list[tuple[str, str]], directory: Path) -> None:
        """Download exactly these versions into `directory`, under whatever names apt gives them."""
        self.run("apt-get", "download", "-qq", *(f"{n}={v}" for n, v in names_versions), cwd=directory)

    def closure(self, names: list[str]) -> list[tuple[str, str]]:
        """(name, version) of everything that installing `names` on an empty machine would install."""
        listing = self.run("apt-get", "install", "--simulate", "-qq", *names)
        found = re.findall(r"^Inst (\S+?)(?::\w+)? \((\S+) ", listing, re.MULTILINE)
        return sorted(set(found))

    def records(self, names_versions: list[tuple[str, str]]) -> list[dict[str, str]]:
        """The index's own record of each package: Package, Version, Filename, SHA256, Size."""
        text = self.run("apt-cache", "show", "--no-all-versions", *(f"{n}={v}" for n, v in names_versions))
        paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
        return [dict(re.findall(r"^(\S+): (.*)$", paragraph, re.MULTILINE)) for paragraph in paragraphs]

    def candidates(self, names: list[str]) -> dict[str, str]:
        """The version of each package that the sources would install now; a package they lack is left out."""
        text = self.run("apt-cache", "policy", *names)
        return dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: ([^(\s]\S*)$", text, re.MULTILINE))
