"""The bill of materials of a platform's product: CycloneDX 1.6 in JSON, the same bits for the same pins."""

from __future__ import annotations

import hashlib
from uuid import UUID

from cyclonedx.model import AttachedText, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import (
    Component,
    ComponentType,
    Diff,
    Patch,
    PatchClassification,
    Pedigree,
)
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from sbom import debian, pypi
from sbom.component import component
from sbom.licence import Licence, Term
from sbom.manifest import Manifest
from sbom.tables import Tables


class UnknownLicenceError(Exception):
    """Components whose licence neither they nor our tables say, a line for each."""


def make(manifest: Manifest, tables: Tables) -> str:
    """The document. Raises UnknownLicenceError, and ValueError where it would not be a valid one."""
    debs, unknown_debs = debian.components(manifest.debs, manifest.suite, tables)
    wheels, unknown_wheels = pypi.components(manifest.wheels, tables)
    if unknown_debs or unknown_wheels:
        raise UnknownLicenceError("\n".join(unknown_debs + unknown_wheels))
    licence = Licence((Term(manifest.own["license"]),))
    name, version = manifest.own["name"], manifest.own["version"]
    product = component(
        f"{name}-{manifest.system}",
        version,
        None,
        licence,
        reference="product",
        kind=ComponentType.APPLICATION,
    )
    own = component(name, version, None, licence, reference=name)
    patches = _apply(manifest, wheels, licence)

    bom = Bom(components=[own, *patches, *wheels, *debs])
    bom.metadata.component = product
    for wheel in wheels:
        bom.register_dependency(wheel, [each for each in patches if _changes(each, wheel)])
    bom.register_dependency(product, [own, *wheels, *debs])
    return _document(bom)


def _apply(manifest: Manifest, wheels: list[Component], licence: Licence) -> list[Component]:
    """Each patch as a component of its own, which has a hash, and in the pedigree of what it changes."""
    made = []
    for patch in manifest.patches:
        (wheel,) = (each for each in wheels if each.name == patch.project)
        text = AttachedText(content=patch.path.read_text(), content_type="text/x-diff")
        entry = Patch(type=PatchClassification.UNOFFICIAL, diff=Diff(text=text, url=XsUri(patch.file)))
        wheel.pedigree = wheel.pedigree or Pedigree()
        wheel.pedigree.patches.add(entry)
        file = component(
            patch.file,
            None,
            None,
            licence,
            sha256=patch.sha256,
            reference=patch.file,
            kind=ComponentType.FILE,
        )
        made.append(file)
    return made


def _changes(patch: Component, wheel: Component) -> bool:
    return wheel.pedigree is not None and any(
        each.diff is not None and str(each.diff.url) == patch.name for each in wheel.pedigree.patches
    )


def _document(bom: Bom) -> str:
    """Serialised, without a time, and with a serial number that is a digest of the rest."""
    bom.metadata.timestamp = None  # type: ignore[assignment] # optional in the format, not so in the library
    bom.serial_number = UUID(int=0)
    digest = hashlib.sha256(JsonV1Dot6(bom).output_as_string().encode()).digest()
    bom.serial_number = UUID(bytes=digest[:16], version=5)
    document = JsonV1Dot6(bom).output_as_string(indent=1)
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)
    if error is not None:
        raise ValueError(f"not a valid bill of materials: {error}")
    return document + "\n"
