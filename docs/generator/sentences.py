"""How long the sentences and paragraphs of the documents are.

    python docs/generator/sentences.py

Aims: 17 words a sentence on average in guides, 20 in concepts; no paragraph over five lines. Code blocks,
tables and headings do not count.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_TREE = Path(__file__).resolve().parents[2]
_PARTS = {
    "README.md": ["README.md"],
    "CONTRIBUTING.md": ["CONTRIBUTING.md"],
    **{part: [f"docs/{part}/*.md"] for part in ("getting-started", "guides", "concepts", "reference", "dev")},
    "kernels": ["kernels/README.md"],
}
_GENERATED = re.compile(r"<!-- \w+: generated.*?<!-- end -->", re.S)


def paragraphs(text: str) -> Iterator[list[str]]:
    """The paragraphs of prose, each as its lines; a list's items are one each."""
    block: list[str] = []
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    for line in [*_GENERATED.sub("", text).split("\n"), ""]:
        prose = line and not re.match(r" {4}|[#|<>!]|```", line)
        if block and (not prose or re.match(r"[-*] |\d+\. ", line)):
            yield block
            block = []
        if prose:
            block.append(line)


def sentences(lines: list[str]) -> list[int]:
    """Words of each sentence of a paragraph."""
    text = re.sub(r"\]\([^)]*\)", "]", " ".join(lines))
    return [len(part.split()) for part in re.split(r"(?<=[.:?!])\s+", text) if part.split()]


def main() -> None:
    print(f"{'part':<18}{'sentences':>10}{'mean words':>12}{'longest':>9}{'paragraphs over 5 lines':>25}")
    for part, patterns in _PARTS.items():
        lengths, long = [], []
        for path in sorted(path for pattern in patterns for path in _TREE.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            if "Generated from" in text or "Made from" in text:
                continue
            for block in paragraphs(text):
                lengths += sentences(block)
                if len(block) > 5:
                    long.append(f"{path.relative_to(_TREE)}: {block[0][:40]}")
        if lengths:
            mean = sum(lengths) / len(lengths)
            print(f"{part:<18}{len(lengths):>10}{mean:>12.1f}{max(lengths):>9}{len(long):>25}")
            for entry in long:
                print(f"    {entry}")


if __name__ == "__main__":
    main()
