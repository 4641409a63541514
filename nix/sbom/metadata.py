"""A wheel's METADATA: the licence it declares, where it declares one that is sure."""

from __future__ import annotations

import re
from email.message import Message

from sbom.licence import Term, identifiers, spdx

_CLASSIFIER = "License :: "
# Trove's classifiers that mean one licence. "BSD License" and "Apache Software License" do not.
_CLASSIFIERS = {
    "OSI Approved :: ISC License (ISCL)": "ISC",
    "OSI Approved :: MIT License": "MIT",
    "OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "OSI Approved :: The Unlicense (Unlicense)": "Unlicense",
}
# What is written into the free text field "License" for one licence and no other.
_WRITTEN = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "isc license": "ISC",
    "mit license": "MIT",
}
# A licence's whole text is sometimes put there: these are how the texts begin.
_BEGINNINGS = {
    re.compile(r"MIT License Copyright "): "MIT",
    re.compile(r"Apache License Version 2\.0, January 2004 "): "Apache-2.0",
}


def declared(metadata: Message) -> Term | None:
    """The licence that METADATA declares; None where it declares none, or differing ones, or is vague."""
    expression = metadata.get("License-Expression")
    if expression is not None:
        valid = spdx(expression)
        return None if valid is None else Term(valid)
    field = written(metadata.get("License", ""))
    classified = [_CLASSIFIERS[each] for each in classifiers(metadata) if each in _CLASSIFIERS]
    if field is not None:
        agrees = identifiers(field) >= set(classified)
        return Term(field) if agrees else None
    if metadata.get("License", "").strip() or len(set(classified)) != 1:
        return None
    return Term(classified[0])


def classifiers(metadata: Message) -> list[str]:
    """The licence classifiers, without what they have in common."""
    every = (str(each) for each in metadata.get_all("Classifier", []))
    return [each.removeprefix(_CLASSIFIER) for each in every if each.startswith(_CLASSIFIER)]


def proprietary(metadata: Message) -> bool:
    """Whether a wheel says that it is not free."""
    said = [metadata.get("License-Expression", ""), metadata.get("License", "")[:200], *classifiers(metadata)]
    return any("proprietary" in each.lower() for each in said)


def summary(metadata: Message) -> str:
    """What METADATA says of the licence, in one line."""
    field = " ".join((metadata.get("License-Expression") or metadata.get("License") or "").split())
    said = [field[:60] + "…" if len(field) > 60 else field, *classifiers(metadata)]
    return "; ".join(each for each in said if each) or "nothing"


def written(field: str) -> str | None:
    """What the free text field "License" means, None where that is not sure."""
    text = " ".join(field.split())
    if len(text) > 200:
        return next((name for beginning, name in _BEGINNINGS.items() if beginning.match(text)), None)
    return _WRITTEN.get(text.lower()) or (spdx(text) if text else None)
