"""A licence as it is written down: an SPDX expression where there is one, else a name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cyclonedx.model import XsUri
from cyclonedx.model.license import (
    DisjunctiveLicense,
    License,
    LicenseAcknowledgement,
    LicenseExpression,
)
from cyclonedx.spdx import is_supported_id
from license_expression import ExpressionError, Licensing, get_spdx_licensing


@dataclass(frozen=True)
class Term:
    """One licence of those that hold for a component: an SPDX expression where `known`, else a mere name."""

    name: str
    known: bool = True
    url: str | None = None


@dataclass(frozen=True)
class Licence:
    """Every term holds, each for some of a component's files.

    `reason` is None where the component itself declares them, and says why where we conclude them.
    """

    terms: tuple[Term, ...]
    reason: str | None = None


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


@cache
def spdx(text: str) -> str | None:
    """An SPDX expression as SPDX spells it, None where `text` is none."""
    try:
        parsed = _licensing().parse(text, validate=True, strict=True)
    except ExpressionError:
        return None
    return None if parsed is None else str(parsed.render())


def identifiers(expression: str) -> frozenset[str]:
    """The licences and exceptions that a valid expression names."""
    return frozenset(_licensing().license_keys(expression))


def conjunction(expressions: list[str]) -> str:
    """One expression that says that each holds."""
    if len(expressions) == 1:
        return expressions[0]
    return " AND ".join(f"({each})" if " OR " in each else each for each in expressions)


def entries(licence: Licence) -> list[License]:
    """In the form of CycloneDX 1.6: either one expression, or a list of identifiers and names."""
    said = LicenseAcknowledgement.DECLARED if licence.reason is None else LicenseAcknowledgement.CONCLUDED
    terms = sorted(set(licence.terms), key=lambda term: (term.name, term.url or ""))
    if all(term.known for term in terms) and not (len(terms) == 1 and is_supported_id(terms[0].name)):
        return [LicenseExpression(conjunction([term.name for term in terms]), acknowledgement=said)]
    return [_entry(term, said) for term in terms]


def _entry(term: Term, said: LicenseAcknowledgement) -> DisjunctiveLicense:
    if term.known and is_supported_id(term.name):
        return DisjunctiveLicense(id=term.name, acknowledgement=said)
    url = XsUri(term.url) if term.url else None
    return DisjunctiveLicense(name=term.name, url=url, acknowledgement=said)
