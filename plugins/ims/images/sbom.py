"""The inventory of an image as an SBOM in the JSON format of CycloneDX.

The SBOM is written when an image is packed and read when an image is registered. SBOMs of other programs can be read,
too: the components with package URLs of rpm or deb are the packages.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from packageurl import PackageURL
from pydantic import BaseModel, Field, ValidationError

from ims.errors import InputError
from ims.images.inventory import Inventory
from ims.images.packages import Package

if TYPE_CHECKING:  # slow to import
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

SBOM = "sbom.cdx.json"
MAX_BYTES = 16 * 1024 * 1024
MAX_PACKAGES = 20_000
MAX_KERNELS, MAX_KERNEL = 100, 255
KERNEL = "ims:kernel"
SOURCE = "ims:source"
UNKNOWN = "ims:packages-unknown"
_INCOMPLETE = [{"aggregate": "unknown", "assemblies": ["system"]}]
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"


def write_sbom(inventory: Inventory) -> str:
    """The SBOM of an inventory. The same inventory gives the same text.

    If the packages are unknown, the SBOM lists none and says so, for people and other programs (`compositions`).
    """
    from cyclonedx.model import Property
    from cyclonedx.model.bom import BomMetaData
    from cyclonedx.model.component import Component, ComponentType

    system = Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=inventory.system or "unknown",
        version=inventory.system_version or None,
        bom_ref="system",
    )
    about = BomMetaData(component=system, properties=[Property(name=KERNEL, value=item) for item in inventory.kernels])
    if inventory.packages is None:
        about.properties.add(Property(name=UNKNOWN, value=inventory.unknown))
    about.timestamp = None  # type: ignore[assignment]  # its default is the current time
    parts = {
        url: _plain(_component(package, url))
        for package in inventory.packages or ()
        if (url := _url(package, inventory))
    }
    # The library's own serializer searches a list for each component, which takes minutes for thousands of packages.
    document = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": _plain(about),
        "components": [parts[key] for key in sorted(parts)],
        **({"compositions": _INCOMPLETE} if inventory.packages is None else {}),
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document))
    return json.dumps({**document, "serialNumber": serial.urn}, indent=1)


def read_sbom(data: bytes, name: object) -> Inventory:
    """The packages and kernels that an SBOM lists. Raises InputError if it is not CycloneDX, or too large."""
    try:
        bom = _Bom.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise InputError(f"the SBOM {name} is not CycloneDX JSON: {where}: {first['msg']}") from None
    found = {(item.name, item.version, item.arch): item for part in bom.components for item in _packages(part)}
    if len(found) > MAX_PACKAGES:
        raise InputError(f"the SBOM {name} lists {len(found)} packages, more than {MAX_PACKAGES}")
    kernels = {item.value for item in bom.metadata.properties if item.name == KERNEL}
    if len(kernels) > MAX_KERNELS or any(len(kernel) > MAX_KERNEL for kernel in kernels):
        raise InputError(f"the SBOM {name} lists over {MAX_KERNELS} kernels or names over {MAX_KERNEL} characters")
    unknown = [item.value for item in bom.metadata.properties if item.name == UNKNOWN]
    return Inventory(None if unknown else sorted(found.values()), sorted(kernels), unknown="".join(unknown[:1]))


def _url(package: Package, inventory: Inventory) -> str:
    epoch, colon, rest = package.version.rpartition(":")
    split = colon and package.type == "rpm"  # in package URLs of deb, the epoch is part of the version
    distribution = f"{inventory.system}-{inventory.system_version}" if inventory.system_version else inventory.system
    qualifiers = {"arch": package.arch, "epoch": epoch if split else "", "distro": distribution}
    version = rest if split else package.version
    return PackageURL(package.type, inventory.system or None, package.name, version, qualifiers).to_string()


def _component(package: Package, url: str) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        purl=PackageURL.from_string(url),
        bom_ref=url,
        licenses=[_license(package.license)] if package.license else [],
        properties=[Property(name=SOURCE, value=package.source)],
    )


@cache
def _license(text: str) -> License:
    """A license from an SPDX identifier or expression, or else from any name."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    return LicenseFactory().make_from_string(text)


def _plain(part: Any) -> Any:
    from cyclonedx.schema.schema import SchemaVersion1Dot6

    return json.loads(part.as_json(view_=SchemaVersion1Dot6))


# The parts of an SBOM that are read. A database cannot store the character NUL.
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=8192)]
_Key = Annotated[str, Field(pattern=r"^[^\x00]*$", min_length=1, max_length=255)]


class _Property(BaseModel):
    name: _Text = ""
    value: _Text = ""


class _License(BaseModel):
    id: _Text = ""
    name: _Text = ""


class _LicenseChoice(BaseModel):
    license: _License = _License()
    expression: _Text = ""

    def __str__(self) -> str:
        return self.expression or self.license.id or self.license.name


class _Component(BaseModel):
    name: _Key
    version: Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=255)] = ""
    purl: _Text = ""
    licenses: Annotated[list[_LicenseChoice], Field(max_length=100)] = []
    properties: Annotated[list[_Property], Field(max_length=1000)] = []


class _Metadata(BaseModel):
    properties: Annotated[list[_Property], Field(max_length=1000)] = []


class _Bom(BaseModel):
    bomFormat: Literal["CycloneDX"]
    metadata: _Metadata = _Metadata()
    components: Annotated[list[_Component], Field(max_length=10 * MAX_PACKAGES)] = []


def _packages(part: _Component) -> Iterator[Package]:
    """The package that a component stands for, if it is a package."""
    try:
        url = PackageURL.from_string(part.purl)
    except ValueError:
        return
    if url.type not in ("rpm", "deb") or not part.version:
        return
    arch = dict(url.qualifiers).get("arch", "")[:32]
    source = next((item.value for item in part.properties if item.name == SOURCE), "")
    yield Package(part.name, part.version, arch, url.type, source, ", ".join(filter(None, map(str, part.licenses))))
