"""What an image root holds: its system, kernels and packages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ims.images.packages import Package, packages
from ims.images.root import read_inside, resolve_inside

OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
MODULES = ("lib/modules", "usr/lib/modules")
_KERNEL = re.compile(r"[\x21-\x7e]{1,255}")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Inventory:
    """What an image holds. `system` and `system_version` are those of os-release, empty where it has none."""

    packages: list[Package] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    system: str = ""
    system_version: str = ""


def read_inventory(root: Path) -> Inventory:
    """The inventory of an image root; without a package manager its list of packages is empty."""
    release = _os_release(root)
    return Inventory(packages(root), kernels(root), release.get("ID", ""), release.get("VERSION_ID", ""))


def kernels(root: Path) -> list[str]:
    """The versions of the kernels that an image root has modules for."""
    folders = [folder for name in MODULES if (folder := resolve_inside(root, name)) is not None and folder.is_dir()]
    found = {path for folder in folders for path in folder.iterdir() if not path.is_symlink() and path.is_dir()}
    return sorted({path.name for path in found if _KERNEL.fullmatch(path.name)})


def _os_release(root: Path) -> dict[str, str]:
    """The plain words among the values of os-release."""
    text = next((text for name in OS_RELEASE if (text := read_inside(root, name, 64 * 1024))), "")
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: word for name, _, value in pairs if _WORD.fullmatch(word := value.strip().strip("\"'"))}
