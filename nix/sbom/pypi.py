"""Wheels -> components."""

from __future__ import annotations

import email
import zipfile
from collections.abc import Iterable
from email.message import Message
from pathlib import Path

from cyclonedx.model import Property
from cyclonedx.model.component import Component
from packageurl import PackageURL

from sbom import metadata
from sbom.component import component
from sbom.licence import Licence
from sbom.manifest import Pin
from sbom.tables import Tables, matches

# What METADATA says where we conclude otherwise.
DECLARED = "dgx-vllm:licence:declared"
# Wheels that are themselves what is watched for, and free.
_OF_ITS_OWN = frozenset({"nvidia-nccl-cu13"})
_TEXTS = (".py", ".pyi", ".pxd", ".pyx", ".h", ".hpp", ".cuh")
# A bundle's files.
FILES = "dgx-vllm:files"


def components(pins: Iterable[Pin], tables: Tables) -> tuple[list[Component], list[str]]:
    """A component for each pin, and a line for each wheel or file that no licence is known of."""
    made, unknown = [], []
    for pin in pins:
        message, paths = read(pin.path)
        found = licence(pin.name, message, tables)
        if found is None:
            unknown.append(f"{pin.name}: METADATA says {metadata.summary(message)}")
            continue
        loose = strays(pin.name, paths, tables)
        unknown += [f"{pin.name}: {path} is under other terms than the wheel" for path in loose]
        made.append(_component(pin, message, paths, found, tables))
    return made, unknown


def read(path: Path) -> tuple[Message, list[str]]:
    """A wheel's METADATA, and the paths of its files."""
    with zipfile.ZipFile(path) as wheel:
        paths = [each for each in wheel.namelist() if not each.endswith("/")]
        (own,) = (each for each in paths if each.count("/") == 1 and each.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(own)), paths


def licence(name: str, message: Message, tables: Tables) -> Licence | None:
    """From unfree.toml or overrides.toml, else from METADATA; None if none of them is sure."""
    if name in tables.unfree:
        return tables.unfree[name]
    if name in tables.wheels:
        return tables.wheels[name]
    declared = metadata.declared(message)
    return None if declared is None or metadata.proprietary(message) else Licence((declared,))


def strays(name: str, paths: Iterable[str], tables: Tables) -> list[str]:
    """A wheel's files that are watched for, and that no table speaks of."""
    if name in tables.unfree or name in _OF_ITS_OWN:
        return []
    bundles = tables.bundles.get(name, ())
    return [
        path
        for path in paths
        if matches(tables.watched, path.rpartition("/")[2].lower())
        and not path.endswith(_TEXTS)
        and not any(bundle.holds(path) for bundle in bundles)
    ]


def _component(pin: Pin, message: Message, paths: list[str], found: Licence, tables: Tables) -> Component:
    purl = PackageURL("pypi", None, pin.name, pin.version, {"file_name": pin.file})
    made = component(pin.name, pin.version, purl, found, sha256=pin.sha256)
    if found.reason:
        made.properties.add(Property(name=DECLARED, value=metadata.summary(message)))
    for bundle in tables.bundles.get(pin.name, ()):
        files = sorted(path for path in paths if bundle.holds(path))
        if not files:
            continue  # another platform's wheel has it
        part = component(bundle.name, None, None, bundle.licence, reference=f"{purl}#{bundle.name}")
        part.properties.add(Property(name=FILES, value=" ".join(bundle.files)))
        made.components.add(part)
    return made
