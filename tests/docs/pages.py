"""The pages that people read: README.md, CONTRIBUTING.md, docs/ and kernels/README.md."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
#: Pages that a program writes: their commands are usage lines.
GENERATED = ("commands.md", "nixos-options.md", "troubleshooting.md")

_PROGRAMS = (
    *("dgx-vllm", "sh", "nix", "docker", "podman", "curl", "python", "nvcc", "systemctl", "journalctl"),
    *("ssh", "head", "nix-instantiate", "nix-collect-garbage", "nixos-rebuild", "git", "rm", "cd", "pytest"),
)


def pages() -> list[Path]:
    """Every page, in order."""
    return sorted(
        [
            *(TREE / name for name in ("README.md", "CONTRIBUTING.md", "kernels/README.md")),
            *(TREE / "docs").rglob("*.md"),
        ]
    )


def code_blocks(text: str) -> Iterator[list[str]]:
    """The indented blocks of a page, without their indentation."""
    block: list[str] = []
    for line in [*text.split("\n"), ""]:
        if line.startswith("    ") and not line.lstrip().startswith("- "):
            block.append(line[4:])
        elif block and not line:
            yield block
            block = []
        else:
            block = []


def commands(page: Path) -> Iterator[str]:
    """The shell commands of a page, lines joined and comments dropped."""
    for block in code_blocks(page.read_text(encoding="utf-8")):
        text = "\n".join(block).replace("\\\n", " ")
        for line in text.split("\n"):
            words = _words(line)
            named = [word for word in words if "=" not in word.split("/")[0] or word.startswith("-")]
            if named and named[0] == "sudo":
                named = [word for word in named[1:] if not re.match(r"[A-Z_]+=", word)]
            if named and Path(named[0]).name in _PROGRAMS and not line.startswith(" "):
                yield " ".join(shlex.quote(word) if re.search(r"[\s'{]", word) else word for word in words)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(re.sub(r"\s#\s.*$", "", line))  # shlex would take .#serve for a comment
    except ValueError:
        return []


def links(page: Path) -> Iterator[tuple[str, str]]:
    """The links of a page to files of the tree: path and anchor, either may be empty."""
    text = re.sub(r"^ {4}.*$", "", page.read_text(encoding="utf-8"), flags=re.M)
    text = re.sub(r"`[^`]*`", "", text) if "](" not in text else text
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    for target in found:
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", h).lower()).replace(" ", "-") for h in headings}
