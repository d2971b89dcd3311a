"""Reads which packages an image root contains from the databases of dpkg and rpm, without changing them."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ims.errors import InputError
from ims.images.root import read_inside, resolve_inside

log = logging.getLogger(__name__)

DPKG = "var/lib/dpkg/status"
RPM = ("usr/lib/sysimage/rpm", "var/lib/rpm")
MAX_STATUS = 64 * 1024 * 1024
MAX_RPM = 1024**3
"""Bytes of the database of rpm."""
MAX_QUERY = 256 * 1024 * 1024
"""Bytes that rpm may print or write."""
QUERY_SECONDS = 300
MAX_PACKAGES = 20_000
MAX_COPYRIGHT = 1024 * 1024
MAX_LICENSE = 4096

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
    """All packages of an image root, sorted. Returns an empty list if it has no package manager.

    Raises InputError if there are too many.
    """
    found = sorted({*_dpkg(root), *_rpm(root)})
    if len(found) > MAX_PACKAGES:
        raise InputError(f"the image has {len(found)} packages, more than {MAX_PACKAGES}")
    return found


def installed_packages(root: Path) -> Packages:
    """The versions of all packages of an image root by the label of the package, see `label`."""
    versions = defaultdict(set)
    for package in [*_dpkg(root, licenses=False), *_rpm(root)]:
        versions[label(package.type, package.name, package.arch)].add(package.version)
    return {name: ", ".join(sorted(versions[name])) for name in sorted(versions)}


def label(kind: str, name: str, arch: str) -> str:
    """The name and the architecture of a package as its package manager writes them."""
    return f"{name}:{arch}" if kind == "deb" else f"{name}.{arch}"


def _dpkg(root: Path, *, licenses: bool = True) -> Iterator[Package]:
    for paragraph in (read_inside(root, DPKG, MAX_STATUS) or "").split("\n\n"):
        # A line that continues a field starts with a space.
        lines = [line.partition(": ") for line in paragraph.splitlines() if not line.startswith(" ")]
        fields = {name: value for name, _, value in lines}
        name, version, arch = (fields.get(field, "") for field in ("Package", "Version", "Architecture"))
        if fields.get("Status", "").endswith(" installed") and name and version and arch:
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


def _rpm(root: Path) -> Iterator[Package]:
    folder = next((found for name in RPM if (found := _non_empty_folder(root, name))), None)
    if folder is None:
        return
    # SQLite writes even when it only reads, so rpm gets a copy.
    with tempfile.TemporaryDirectory() as copy:
        files = [file for file in folder.iterdir() if file.is_file() and not file.is_symlink()]
        if (size := sum(file.stat().st_size for file in files)) > MAX_RPM:
            raise InputError(f"the image's rpm database has {size} bytes, more than {MAX_RPM}")
        for file in files:
            shutil.copy(file, copy)
        output = _query(copy)
    for line in output.split("\n"):
        fields = line.split("\t", maxsplit=4)
        if len(fields) == 5 and all(fields[:3]) and fields[0] != "gpg-pubkey":
            name, version, arch, source, license_text = fields
            yield Package(name, version, arch, "rpm", source.rsplit("-", 2)[0], license_text[:MAX_LICENSE])


def _query(database: str) -> str:
    """What rpm says about the packages of a database. Logs a warning and returns nothing if rpm fails."""
    query = ["rpm", "--dbpath", database, "--query", "--all", "--queryformat", _FORM]
    with tempfile.TemporaryFile() as output:
        # The limit of file sizes ends rpm if a hostile database makes it print without end.
        limited = ["prlimit", f"--fsize={MAX_QUERY}", "--", *query]
        try:
            done = subprocess.run(limited, stdout=output, stderr=subprocess.PIPE, check=False, timeout=QUERY_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the image's rpm database cannot be read within %d s", QUERY_SECONDS)
            return ""
        if done.returncode != 0:
            log.warning("the image's rpm database cannot be read: %s", done.stderr.decode(errors="replace").strip())
            return ""
        output.seek(0)
        return output.read().decode(errors="replace")


def _non_empty_folder(root: Path, name: str) -> Path | None:
    found = resolve_inside(root, name)
    return found if found is not None and found.is_dir() and any(found.iterdir()) else None
