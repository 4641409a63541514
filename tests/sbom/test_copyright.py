"""Debian's machine-readable copyright files, and their licence names in SPDX's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sbom import copyright
from sbom.licence import spdx

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


def test_the_licences_of_files_count_and_those_of_texts_do_not() -> None:
    text = f"""{FORMAT}Upstream-Name: example

Files: *
Copyright: 2001 Somebody
License: GPL-2+

Files: lib/*
Copyright: 2002 Somebody
License: LGPL-2.1+
 This library is free software.
 .
 License: is a word in this text

License: Artistic
 Nobody's files have this.
"""
    assert copyright.names(text) == ("GPL-2+", "LGPL-2.1+")


def test_a_licence_of_several_paragraphs_is_named_once() -> None:
    text = f"{FORMAT}\nFiles: a\nLicense: Expat\n\nFiles: b\nLicense: Expat\n"
    assert copyright.names(text) == ("Expat",)


def test_the_header_may_have_a_licence_of_the_whole() -> None:
    assert copyright.names(f"{FORMAT}License: Zlib\n") == ("Zlib",)


def test_where_no_paragraph_has_files_the_texts_count() -> None:
    assert copyright.names(f"{FORMAT}\nLicense: Zlib\n Text.\n") == ("Zlib",)


def test_a_text_without_a_name_is_said_to_be_unnamed() -> None:
    assert copyright.names(f"{FORMAT}\nFiles: *\nLicense:\n Permission is granted.\n") == (
        "unnamed, see the copyright file",
    )


@pytest.mark.parametrize(
    "text", ["", "This package was debianized by somebody.\n\nLicense: GPL\n", "Files: *\nLicense: GPL-2\n"]
)
def test_prose_is_not_read(text: str) -> None:
    assert copyright.names(text) is None


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("Expat", "MIT"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("gpl-3.0+", "GPL-3.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("AGPL-3+", "AGPL-3.0-or-later"),
        ("GFDL-1.3+", "GFDL-1.3-or-later"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("Apache-2", "Apache-2.0"),
        ("CC0", "CC0-1.0"),
        ("GPL-2 with Linux-syscall-note exception", "GPL-2.0-only WITH Linux-syscall-note"),
        ("GPL-3+ with Bison-2.2 exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2 or BSD-2-clause", "GPL-2.0-only OR BSD-2-Clause"),
        ("GPL-3+ and ISC", "GPL-3.0-or-later AND ISC"),
        ("ISC or GPL-2 and Zlib", "ISC OR (GPL-2.0-only AND Zlib)"),
        ("ISC or GPL-2, and Zlib", "(ISC OR GPL-2.0-only) AND Zlib"),
    ],
)
def test_a_sure_name_is_an_spdx_expression(name: str, expression: str) -> None:
    assert copyright.term(name) == copyright.Term(expression)
    assert spdx(expression) == expression


@pytest.mark.parametrize(
    "name",
    [
        "MIT",  # the format warns of this name
        "GPL",  # of no version
        "public-domain",
        "GPL-3+ with Bison exception",  # SPDX knows two
        "GPL-2+ or Artistic",
        "ISC and/or GPL-2",
        "ISC, or GPL-2, and Zlib",
        "custom",
        "",
    ],
)
def test_unsure_names_stay_as_they_are(name: str) -> None:
    assert copyright.term(name) == copyright.Term(name, known=False)


@given(st.text(alphabet="GPLBSDMIT-+.,0123 andorwith\n", max_size=60))
def test_what_is_called_known_is_spelt_as_spdx_spells_it(name: str) -> None:
    term = copyright.term(name)
    assert not term.known or spdx(term.name) == term.name


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    names = copyright.names(FORMAT + text)
    assert names is not None
    assert len(set(names)) == len(names)
