"""Debian's machine-readable copyright files: which licences a source package's files have.

The format is https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from cyclonedx.spdx import fixup_id

from sbom.licence import Term, spdx

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)")
# What the format itself defines and SPDX calls otherwise. "MIT" is not among them: the format warns that many
# licences go by that name, and has "Expat" for the one that SPDX means.
_STANDARD = {"expat": "MIT", "cc0": "CC0-1.0"}
_VAGUE = frozenset({"mit"})
_EXCEPTIONS = {
    "linux-syscall-note exception": "Linux-syscall-note",
    "bison-2.2 exception": "Bison-exception-2.2",
}
_GNU = re.compile(r"(?P<family>A?GPL|LGPL|GFDL)(?P<niv>-NIV)?-(?P<version>\d+(?:\.\d+)*)(?P<later>\+)?", re.I)


def names(text: str) -> tuple[str, ...] | None:
    """The licence fields' first lines, in the file's order; None where the file is not machine-readable."""
    paragraphs = list(_paragraphs(text))
    if not paragraphs or not paragraphs[0].keys() & {"format", "format-specification"}:
        return None
    # Paragraphs without files give the text of a licence that others name.
    holding = [each for each in paragraphs if "files" in each and "license" in each]
    holding += [each for each in paragraphs[:1] if each.get("license")]
    if not holding:
        holding = [each for each in paragraphs if "license" in each]
    return tuple(dict.fromkeys(each["license"] or "unnamed, see the copyright file" for each in holding))


def term(name: str) -> Term:
    """A licence field's first line, in SPDX's words where the mapping is sure."""
    expression = _alternatives(name)
    return Term(name, known=False) if expression is None else Term(expression)


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    paragraph: dict[str, str] = {}
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if paragraph:
                yield paragraph
            paragraph = {}
        elif match := _FIELD.match(line):
            paragraph.setdefault(match[1].lower(), " ".join(match[2].split()))


def _alternatives(name: str) -> str | None:
    """ "and" binds more tightly than "or", unless a comma stands before it."""
    if re.search(r"\band/or\b", name, re.I):
        return None
    outer = {word.lower() for word in re.findall(r",\s+(and|or)\s", name, re.I)}
    if len(outer) > 1:
        return None
    if outer:
        word = outer.pop()
        return _joined(re.split(rf",\s+{word}\s+", name, flags=re.I), word.upper(), _alternatives)
    if re.search(r"\sor\s", name, re.I):
        return _joined(re.split(r"\s+or\s+", name, flags=re.I), "OR", _alternatives)
    if re.search(r"\sand\s", name, re.I):
        return _joined(re.split(r"\s+and\s+", name, flags=re.I), "AND", _single)
    return _single(name)


def _joined(parts: list[str], word: str, read: Callable[[str], str | None]) -> str | None:
    read_parts = [read(part.strip(" ,")) for part in parts]
    known = [part for part in read_parts if part is not None]
    if len(known) != len(parts):
        return None
    return spdx(f" {word} ".join(f"({part})" for part in known))


def _single(name: str) -> str | None:
    plain, _, exception = (part.strip() for part in name.partition(" with "))
    identifier = _identifier(plain)
    if not exception or identifier is None:
        return identifier
    with_exception = _EXCEPTIONS.get(exception.lower())
    return spdx(f"{identifier} WITH {with_exception}") if with_exception else None


def _identifier(name: str) -> str | None:
    if name.lower() in _VAGUE:
        return None
    if standard := _STANDARD.get(name.lower()):
        return standard
    if match := _GNU.fullmatch(name):
        version = match["version"] if "." in match["version"] else f"{match['version']}.0"
        without = "-no-invariants" if match["niv"] else ""
        later = "or-later" if match["later"] else "only"
        return spdx(f"{match['family'].upper()}-{version}{without}-{later}")
    # In this format 2 and 2.0 are the same version.
    variants = (name, f"{name}.0", re.sub(r"(\.0)+$", "", name))
    return next((found for found in map(fixup_id, variants) if found is not None), None)
