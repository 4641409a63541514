"""The licence that a wheel's METADATA declares."""

import email

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sbom import metadata
from sbom.licence import Term, spdx

APACHE = "License :: OSI Approved :: Apache Software License"
MIT = "License :: OSI Approved :: MIT License"
APACHE_TEXT = """Apache License
                                   Version 2.0, January 2004
                                http://www.apache.org/licenses/
        """ + " ".join(["terms and conditions"] * 20)


def declared(lines: str) -> Term | None:
    return metadata.declared(email.message_from_string(f"Name: example\n{lines}\n"))


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        ("License-Expression: MIT AND (Apache-2.0 OR BSD-2-Clause)", "MIT AND (Apache-2.0 OR BSD-2-Clause)"),
        ("License-Expression: mit", "MIT"),
        ("License: Apache-2.0", "Apache-2.0"),
        (f"License: Apache 2.0\nClassifier: {APACHE}", "Apache-2.0"),
        ("License: MIT License", "MIT"),
        ("License: 3-Clause BSD License", "BSD-3-Clause"),
        (f"License: {APACHE_TEXT}", "Apache-2.0"),
        (f"Classifier: {MIT}", "MIT"),
        (f"License-Expression: ISC\nClassifier: {MIT}", "ISC"),
        (f"License: MIT OR Apache-2.0\nClassifier: {MIT}\nClassifier: {APACHE}", "MIT OR Apache-2.0"),
    ],
)
def test_clear_metadata_declares_a_licence(lines: str, licence: str) -> None:
    assert declared(lines) == Term(licence)


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "License: ",
        "License: BSD",
        "License: MIT-ish, ask us",
        "License-Expression: LicenseRef-Proprietary",
        "License-Expression: MIT AND",
        "Classifier: License :: OSI Approved :: BSD License",
        f"Classifier: {APACHE}",
        f"License: ISC\nClassifier: {MIT}",
        f"License: BSD\nClassifier: {MIT}",
        "License: " + "All rights reserved. " * 20,
    ],
)
def test_unclear_metadata_declares_nothing(lines: str) -> None:
    assert declared(lines) is None


@pytest.mark.parametrize(
    ("lines", "proprietary"),
    [
        ("License-Expression: LicenseRef-NVIDIA-Proprietary", True),
        ("License: NVIDIA Proprietary Software", True),
        ("License: Apache 2.0\nClassifier: License :: Other/Proprietary License", True),
        ("License-Expression: MIT", False),
        ("", False),
    ],
)
def test_proprietary_metadata_is_recognized(lines: str, proprietary: bool) -> None:
    assert metadata.proprietary(email.message_from_string(f"Name: example\n{lines}\n")) == proprietary


def test_a_summary_is_one_short_line() -> None:
    message = email.message_from_string(f"Name: example\nLicense: {APACHE_TEXT}\nClassifier: {APACHE}\n")
    summary = metadata.summary(message)
    assert summary.startswith("Apache License Version 2.0")
    assert summary.endswith("; OSI Approved :: Apache Software License")
    assert "\n" not in summary
    assert len(summary) < 120
    assert metadata.summary(email.message_from_string("Name: example\n")) == "nothing"


@given(st.text())
def test_what_is_written_is_spdx_or_nothing(field: str) -> None:
    written = metadata.written(field)
    assert written is None or spdx(written) == written
