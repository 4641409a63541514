"""Debian packages -> components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cyclonedx.model.component import Component, ComponentType, Pedigree
from packageurl import PackageURL

from sbom import copyright
from sbom.component import component
from sbom.deb import Deb, Linked, Source
from sbom.licence import Licence
from sbom.manifest import Pin
from sbom.tables import Tables


@dataclass(frozen=True)
class Package:
    """What is read of a package: its licence, or the package whose licence is its own too."""

    source: Source
    licence: Licence | Linked | None


def components(pins: Iterable[Pin], suite: str, tables: Tables) -> tuple[list[Component], list[str]]:
    """A component for each pin, and a line for each that no licence is known of."""
    every = list(pins)
    with ThreadPoolExecutor() as pool:  # xz is most of it, and holds no lock
        packages = dict(pool.map(lambda pin: (pin.name, _read(pin, tables)), every))
    made, unknown = [], []
    for pin in every:
        source = packages[pin.name].source
        found = licence(pin.name, packages)
        if found is None:
            unknown.append(f"{pin.name} (of {source.name}): its copyright file is not machine-readable")
        else:
            made.append(_component(pin, source, suite, found))
    return made, unknown


def licence(name: str, packages: Mapping[str, Package]) -> Licence | None:
    """A package's licence, by way of what it links to."""
    seen: set[str] = set()
    while name in packages and name not in seen:
        seen.add(name)
        found = packages[name].licence
        if not isinstance(found, Linked):
            return found
        name = found.name
    return None


def _read(pin: Pin, tables: Tables) -> Package:
    """Reads no further than overrides.toml makes necessary: some packages are large."""
    deb = Deb(pin.path, pin.name, pin.version)
    override = tables.packages.get(pin.name) or tables.sources.get(deb.source.name)
    if override is not None:
        return Package(deb.source, override)
    text = deb.copyright()
    if not isinstance(text, str):
        return Package(deb.source, text)
    names = copyright.names(text)
    terms = None if names is None else tuple(copyright.term(each) for each in names)
    return Package(deb.source, None if terms is None else Licence(terms))


def _component(pin: Pin, source: Source, suite: str, found: Licence) -> Component:
    architecture = pin.file.rsplit("_", 1)[-1].removesuffix(".deb")
    purl = _purl(pin.name, pin.version, suite, architecture)
    made = component(pin.name, pin.version, purl, found, sha256=pin.sha256)
    # Where the corresponding source is: the same archive has it under this name and version.
    origin = Component(
        type=ComponentType.LIBRARY,
        name=source.name,
        version=source.version,
        purl=_purl(source.name, source.version, suite, "source"),
    )
    made.pedigree = Pedigree(ancestors=[origin])
    return made


def _purl(name: str, version: str, suite: str, architecture: str) -> PackageURL:
    return PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": suite})
