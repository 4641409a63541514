"""docs/dev/patches.md, from published.toml and the headers in patches/; run as a program, writes it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
TREE = HERE.parents[1]
PAGE = TREE / "docs/dev/patches.md"
VERDICTS = {
    "upstream": "fixed upstream",
    "moot": "moot",
    "harmful": "would harm",
    "remains": "remains",
}

INTRODUCTION = """\
# Patches

Made from `tests/patches/published.toml` and the headers in `patches/` by `python tests/patches/published.py`;
a test holds it against them.

## Those that the published image carried

The Docker image that first served NVFP4 on a DGX Spark patched vLLM 0.16.0rc2, FlashInfer and CUDA. A fault
that is gone at our pin gets no patch but a test, which fails if it comes back. Tests that look at the CUDA
wheels find the environment that a GB10 runs in `GB10_ENVIRONMENT`, and are skipped without it; what vLLM's
CPU build shows counts for the CUDA wheel because the files are compared. None of this ran on a GB10.
"""


def rows() -> list[dict]:
    return tomllib.loads((HERE / "published.toml").read_text())["patch"]


def linked(thread: str) -> str:
    """owner/repository#number, as a link; GitHub leads from /issues/ to pull requests too."""
    repository, number = thread.split("#")
    return f"[{repository.rpartition('/')[2]}#{number}](https://github.com/{repository}/issues/{number})"


def header(patch: Path) -> tuple[str, dict[str, str]]:
    """A patch's headline and its fields, whose text goes on in indented lines."""
    headline, *lines = patch.read_text().split("\n--- a/", 1)[0].splitlines()
    fields: dict[str, str] = {}
    for line in lines:
        if found := re.match(r"([A-Z]\w+): (.*)", line):
            field = found[1]
            fields[field] = found[2]
        elif line.strip():
            fields[field] += " " + line.strip()
    return headline, fields


def page() -> str:
    parts = [INTRODUCTION]
    parts.append("| patch | what it fixed | at our pin |\n|---|---|---|")
    for row in rows():
        parts.append(f"| [{row['title']}](#{row['id']}) | {row['fixed']} | {VERDICTS[row['verdict']]} |")
    for row in rows():
        threads = ", ".join(map(linked, row["upstream"])) or "no thread was found"
        parts.append(f"\n### {row['id']}\n\n{row['title']}: {VERDICTS[row['verdict']]}. {row['shown']}\n")
        parts.append(f"- Upstream: {threads}")
        parts.extend(f"- Test: `tests/patches/{test}`" for test in row["tests"])
    parts.append("\n## Those that we carry\n\nEach applies to the unpacked wheel, without fuzz.")
    for patch in sorted((TREE / "patches").glob("*/*.patch")):
        headline, fields = header(patch)
        parts.append(f"\n### {patch.relative_to(TREE)}\n\n{headline}.\n")
        parts.extend(f"- {field}: {text}" for field, text in fields.items())
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
