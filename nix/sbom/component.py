"""One component of the bill of materials."""

from __future__ import annotations

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.component import Component, ComponentType
from packageurl import PackageURL

from sbom.licence import Licence, entries

# Where a licence is our conclusion, its reason is kept under this name.
REASON = "dgx-vllm:licence:reason"


def component(
    name: str,
    version: str | None,
    purl: PackageURL | None,
    licence: Licence,
    *,
    sha256: str | None = None,
    reference: str | None = None,
    kind: ComponentType = ComponentType.LIBRARY,
) -> Component:
    """A component that is referred to by `reference`, or else by its package URL."""
    return Component(
        type=kind,
        name=name,
        version=version,
        bom_ref=reference or (str(purl) if purl else None),
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else [],
        licenses=entries(licence),
        properties=[Property(name=REASON, value=licence.reason)] if licence.reason else [],
    )
