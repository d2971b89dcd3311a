"""Packages that were added, removed or changed, as commands of the package manager of the image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ims.images.capture.script import Section
from ims.images.changes import Difference
from ims.images.root import resolve_inside

RPM_MANAGERS = ("zypper", "dnf")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:^-]{0,255}")
_APT = (
    *("apt-get", "-q", "-y", "--no-install-recommends", "--allow-downgrades"),
    *("-o", "Dpkg::Options::=--force-confold", "install"),
)


class Wanted(NamedTuple):
    """A package to install or, without a version, to remove."""

    label: str
    version: str = ""


def changed_labels(found: Difference) -> tuple[set[str], set[str]]:
    """The labels of the packages that the image lost or replaced, and of those that it got."""
    upgraded = {_label(item) for item in found.packages_upgraded}
    removed, added = ({_label(item) for item in items} for items in (found.packages_removed, found.packages_added))
    return removed | upgraded, added | upgraded


def package_section(found: Difference, merged: Path) -> Section:
    """The commands that bring the packages of the image, in the same versions.

    Packages without a package manager in the image are left out.
    """
    section = Section("Packages")
    if found.unknown:
        section.leave_out("packages", f"unknown: {found.unknown}")
        return section
    wanted = list(_usable(section, _wanted(found)))
    deb = [package for package in wanted if ":" in package.label]
    rpm = [package for package in wanted if ":" not in package.label]
    manager = next((name for name in RPM_MANAGERS if _has(merged, name)), None)
    if deb and _has(merged, "apt-get"):
        _use_apt(section, deb)
    else:
        _leave_out(section, deb, "the image has no apt-get")
    if rpm and manager == "zypper":
        section.add("zypper", "-n", "install", "--no-recommends", "--oldpackage", "--", *map(_for_zypper, rpm))
    elif rpm and manager == "dnf":
        _use_dnf(section, rpm)
    else:
        _leave_out(section, rpm, "the image has neither zypper nor dnf")
    return section


def _wanted(found: Difference) -> Iterator[Wanted]:
    yield from (Wanted(_label(item)) for item in found.packages_removed)
    yield from (Wanted(_label(item), item.partition(" ")[2]) for item in found.packages_added)
    yield from (Wanted(_label(item), item.rpartition(" -> ")[2]) for item in found.packages_upgraded)


def _usable(section: Section, wanted: Iterable[Wanted]) -> Iterator[Wanted]:
    for package in wanted:
        if not _WORD.fullmatch(package.label) or (package.version and not _WORD.fullmatch(package.version)):
            reason = "several versions are installed side by side, or the name is not one of a package"
            section.leave_out(f"package {package.label} {package.version}".rstrip(), reason)
        else:
            yield package


def _leave_out(section: Section, packages: Sequence[Wanted], reason: str) -> None:
    for label, version in packages:
        section.leave_out(f"package {label} {version}" if version else f"removal of package {label}", reason)


def _use_apt(section: Section, packages: Sequence[Wanted]) -> None:
    section.commands.append("export DEBIAN_FRONTEND=noninteractive")
    section.add("apt-get", "-q", "update")
    section.add(*_APT, *map(_for_apt, packages))


def _use_dnf(section: Section, packages: Sequence[Wanted]) -> None:
    if removed := [package.label for package in packages if not package.version]:
        section.add("dnf", "-y", "--setopt=clean_requirements_on_remove=False", "remove", *removed)
    if added := [_for_dnf(package) for package in packages if package.version]:
        section.add("dnf", "-y", "--setopt=install_weak_deps=False", "install", *added)


def _for_apt(package: Wanted) -> str:
    name = package.label.removesuffix(":all")
    return f"{name}={package.version}" if package.version else f"{name}-"


def _for_zypper(package: Wanted) -> str:
    return f"{package.label}={package.version}" if package.version else f"-{package.label}"


def _for_dnf(package: Wanted) -> str:
    name, _, arch = package.label.rpartition(".")
    return f"{name}-{package.version}.{arch}"


def _has(root: Path, program: str) -> bool:
    return resolve_inside(root, f"usr/bin/{program}") is not None


def _label(item: str) -> str:
    return item.partition(" ")[0]
