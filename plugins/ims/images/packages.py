"""Reads which packages an image root contains from the databases of dpkg and rpm, without changing them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ims.errors import InputError
from ims.images import rpm
from ims.images.root import UnreadableError, printable, read_inside, resolve_inside

DPKG = "var/lib/dpkg/status"
MAX_STATUS = 64 * 1024 * 1024
MAX_PACKAGES = 20_000
MAX_COPYRIGHT = 1024 * 1024
MAX_LICENSE = 4096
_SHOWN = 100

Packages = dict[str, str]
"""Versions by package and architecture. Versions that are installed side by side are separated by commas."""

_FORM = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\t%{LICENSE}\n"
_LICENSE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)
_MACHINE_READABLE = re.compile(r"Format(-Specification)?:", re.IGNORECASE)


class Package(NamedTuple):
    """A package. `type` is rpm or deb, `version` the complete version, and `source` the name of the source package."""

    name: str
    version: str
    arch: str
    type: str
    source: str = ""
    license: str = ""


def read_packages(root: Path) -> list[Package]:
    """All packages of an image root, sorted.

    Raises UnreadableError if they are unknown: the image has no database, or one that cannot be read completely.
    Raises InputError if there are too many.
    """
    found = sorted(set(_read(root)))
    if len(found) > MAX_PACKAGES:
        raise InputError(f"the image has {len(found)} packages, more than {MAX_PACKAGES}")
    return found


def installed_packages(root: Path) -> Packages:
    """The versions of all packages of an image root by the label of the package, see `label`.

    Raises UnreadableError if they are unknown.
    """
    versions = defaultdict(set)
    for package in _read(root, licenses=False):
        versions[label(package.type, package.name, package.arch)].add(package.version)
    return {name: ", ".join(sorted(versions[name])) for name in sorted(versions)}


def label(kind: str, name: str, arch: str) -> str:
    """The name and the architecture of a package as its package manager writes them."""
    return f"{name}:{arch}" if kind == "deb" else f"{name}.{arch}"


def _read(root: Path, *, licenses: bool = True) -> list[Package]:
    status, databases = resolve_inside(root, DPKG), rpm.find_databases(root)
    if status is None and not databases:
        raise UnreadableError("the image has no package database of dpkg or rpm")
    if len(databases) > 1:
        found = " and ".join(f"/{item.folder}/{item.path.name}" for item in databases)
        raise UnreadableError(f"the image has several databases of rpm, and it is unknown which one is right: {found}")
    packages = [] if status is None else list(_dpkg(root, status, licenses=licenses))
    return [*packages, *(package for item in databases for package in _rpm(item))]


def _dpkg(root: Path, status: Path, *, licenses: bool) -> Iterator[Package]:
    if not status.is_file():
        raise UnreadableError(f"/{DPKG} is not a file")
    if (size := status.stat().st_size) > MAX_STATUS:
        raise UnreadableError(f"/{DPKG} has {size} bytes, more than {MAX_STATUS}")
    for paragraph in filter(str.strip, (read_inside(root, DPKG, MAX_STATUS) or "").split("\n\n")):
        # A line that continues a field starts with a space.
        lines = [line.partition(": ") for line in paragraph.splitlines() if not line.startswith(" ")]
        fields = {name: value for name, _, value in lines}
        name, version, arch = (fields.get(field, "") for field in ("Package", "Version", "Architecture"))
        is_installed = fields.get("Status", "").endswith(" installed")
        if not name or (is_installed and not (version and arch)):
            raise UnreadableError(f"/{DPKG} is damaged at {printable(paragraph.strip()[:_SHOWN])}")
        if is_installed:
            # If the version of the source differs, it follows in parentheses.
            source = fields.get("Source", name).partition(" ")[0]
            license_names = _debian_license(root, name) if licenses else ""
            yield Package(name, version, arch, "deb", source, license_names)


def _debian_license(root: Path, package: str) -> str:
    """The licenses that the copyright file of a package names. Empty if the file is not machine-readable."""
    if "/" in package:
        return ""
    text = read_inside(root, f"usr/share/doc/{package}/copyright", MAX_COPYRIGHT) or ""
    if not _MACHINE_READABLE.match(text):
        return ""
    names = dict.fromkeys(" ".join(name.split()) for name in _LICENSE.findall(text))
    return ", ".join(names)[:MAX_LICENSE]


def _rpm(database: rpm.RpmDatabase) -> Iterator[Package]:
    for line in rpm.query(database, _FORM).split("\n"):
        fields = line.split("\t", maxsplit=4)
        if len(fields) == 5 and all(fields[:3]) and fields[0] != "gpg-pubkey":
            name, version, arch, source, license_text = fields
            yield Package(name, version, arch, "rpm", source.rsplit("-", 2)[0], license_text[:MAX_LICENSE])
