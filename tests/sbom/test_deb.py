"""What is read of a Debian package's archive."""

from pathlib import Path

import pytest
from packages import deb
from sbom.deb import Deb, Linked, Source
from sbom.manifest import Pin


def opened(pin: Pin) -> Deb:
    return Deb(pin.path, pin.name, pin.version)


def test_a_package_is_its_own_source_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert opened(deb(tmp_path, "one", "text")).source == Source("one", "1.0-1+b1")
    assert opened(deb(tmp_path, "two", "text", source="many")).source == Source("many", "1.0-1+b1")
    assert opened(deb(tmp_path, "three", "text", source="many (1.0-1)")).source == Source("many", "1.0-1")


def test_copyright_is_the_file_or_a_link_or_nothing(tmp_path: Path) -> None:
    assert opened(deb(tmp_path, "one", "Zoë's text\n")).copyright() == "Zoë's text\n"
    assert opened(deb(tmp_path, "two", link="one")).copyright() == Linked("one")
    assert opened(deb(tmp_path, "three")).copyright() is None


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.deb"
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="not a Debian package"):
        Deb(path, "other", "1")
