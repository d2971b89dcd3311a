"""The inventory of an image root: its system, kernels and packages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ims.images.packages import Package, read_packages
from ims.images.root import UnreadableError, read_inside, resolve_inside

OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
MODULES = ("lib/modules", "usr/lib/modules")
_KERNEL = re.compile(r"[\x21-\x7e]{1,255}")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Inventory:
    """The content of an image. `system` and `system_version` are ID and VERSION_ID of os-release, or empty.

    `packages` is None if they are unknown, and `unknown` says why.
    """

    packages: list[Package] | None = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    system: str = ""
    system_version: str = ""
    unknown: str = ""


def read_inventory(root: Path) -> Inventory:
    """The inventory of an image root. Raises InputError if it has too many packages."""
    release, unknown = _os_release(root), ""
    try:
        packages: list[Package] | None = read_packages(root)
    except UnreadableError as error:
        packages, unknown = None, error.reason
    return Inventory(packages, read_kernels(root), release.get("ID", ""), release.get("VERSION_ID", ""), unknown)


def read_kernels(root: Path) -> list[str]:
    """The versions of the kernels for which an image root has modules."""
    folders = [folder for name in MODULES if (folder := resolve_inside(root, name)) is not None and folder.is_dir()]
    found = {path for folder in folders for path in folder.iterdir() if not path.is_symlink() and path.is_dir()}
    return sorted({path.name for path in found if _KERNEL.fullmatch(path.name)})


def _os_release(root: Path) -> dict[str, str]:
    """The variables of os-release whose values are plain words."""
    text = next((text for name in OS_RELEASE if (text := read_inside(root, name, 64 * 1024))), "")
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: word for name, _, value in pairs if _WORD.fullmatch(word := value.strip().strip("\"'"))}
