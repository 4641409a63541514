"""Licences as CycloneDX has them."""

from hypothesis import given
from hypothesis import strategies as st
from sbom.licence import Licence, Term, conjunction, entries, identifiers, spdx

EXPRESSIONS = st.sampled_from(["MIT", "ISC OR Zlib", "GPL-2.0-only WITH Linux-syscall-note", "MIT AND ISC"])


def said(licence: Licence) -> list[tuple[str, str]]:
    found = []
    for entry in entries(licence):
        kind = "value" if hasattr(entry, "value") else "id" if entry.id else "name"
        found.append((kind, getattr(entry, kind)))
    return found


def test_one_identifier_is_an_id() -> None:
    assert said(Licence((Term("MIT"),))) == [("id", "MIT")]


def test_known_terms_are_one_expression() -> None:
    licence = Licence((Term("MIT"), Term("ISC OR Zlib"), Term("MIT")))
    assert said(licence) == [("value", "(ISC OR Zlib) AND MIT")]


def test_a_name_makes_it_a_list() -> None:
    licence = Licence((Term("MIT"), Term("ISC OR Zlib"), Term("custom", known=False)))
    assert said(licence) == [("name", "ISC OR Zlib"), ("id", "MIT"), ("name", "custom")]


def test_a_name_that_spdx_has_stays_a_name() -> None:
    assert said(Licence((Term("MIT", known=False),))) == [("name", "MIT")]


def test_what_is_concluded_says_so() -> None:
    assert entries(Licence((Term("MIT"),)))[0].acknowledgement == "declared"
    assert entries(Licence((Term("MIT"),), "for a reason"))[0].acknowledgement == "concluded"


@given(st.lists(EXPRESSIONS, min_size=1))
def test_a_conjunction_is_valid_and_names_what_its_parts_name(expressions: list[str]) -> None:
    joined = spdx(conjunction(expressions))
    assert joined is not None
    assert identifiers(joined) == frozenset().union(*map(identifiers, expressions))
