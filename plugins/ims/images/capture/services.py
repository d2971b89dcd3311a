"""Services that were enabled, disabled or masked: links below /etc/systemd/system, as commands of systemctl."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from ims.images.capture.script import Section
from ims.images.root import read_inside, resolve_inside

_FOLDER = "/etc/systemd/system"
_LINK = re.compile(rf"{_FOLDER}/([A-Za-z0-9_.:-]+\.(wants|requires)/)?[A-Za-z0-9_.:-]+")
_UNIT = re.compile(r"((?:/etc|/lib|/usr/lib)/systemd/system)/([A-Za-z0-9_.:-]+\.[a-z]+)")
_VENDOR = ("/usr/lib/systemd/system", "/lib/systemd/system")
_INSTALLED = re.compile(r"^(WantedBy|RequiredBy|Alias)\s*=(.*)$", re.MULTILINE)
_UNKNOWN = re.compile(r"^(Also|UpheldBy|DefaultInstance)\s*=|^\[|%|\\$", re.MULTILINE)
_SUFFIXES = {"WantedBy": "wants", "RequiredBy": "requires"}
_MAX_UNIT = 256 * 1024
_SYSTEMCTL = "SYSTEMD_OFFLINE=1 systemctl"

Links = Mapping[str, str]
"""The targets of links by their paths."""


def service_section(added: Links, removed: Links, lower: Path, merged: Path) -> tuple[Section, set[str]]:
    """The commands, and the added and removed links that they explain.

    systemctl makes exactly the links that a unit asks for. If those of the image differ, they are files like others.
    """
    section, explained = Section("Services"), set[str]()
    if resolve_inside(merged, "usr/bin/systemctl") is None:
        return section, explained
    for verb, root, links in (("enable", merged, added), ("disable", lower, removed)):
        for unit, paths in sorted(_by_unit(links).items()):
            if _unit_file(merged, unit) is not None and paths == _asked_links(root, unit):
                section.commands.append(f"{_SYSTEMCTL} {verb} {unit}")
                explained |= paths
    for path in sorted(path for path, target in added.items() if target == "/dev/null"):
        unit = path.removeprefix(f"{_FOLDER}/")
        if any(_UNIT.fullmatch(name) and read_inside(merged, name, 1) is not None for name in _vendor(unit)):
            section.commands.append(f"{_SYSTEMCTL} mask {unit}")
            explained.add(path)
    return section, explained


def _vendor(unit: str) -> list[str]:
    return [f"{folder}/{unit}" for folder in _VENDOR]


def _by_unit(links: Links) -> dict[str, set[str]]:
    found = defaultdict(set)
    for path, target in links.items():
        if _LINK.fullmatch(path) and (unit := _UNIT.fullmatch(target)):
            found[unit[2]].add(path)
    return found


def _asked_links(root: Path, unit: str) -> set[str]:
    """The links that the section [Install] of a unit asks for. Empty if it asks for more than that."""
    _, _, install = (_unit_file(root, unit) or "").partition("\n[Install]\n")
    if _UNKNOWN.search(install):
        return set()
    found = set()
    for key, value in _INSTALLED.findall(install):
        for name in value.split():
            found.add(f"{_FOLDER}/{name}" if key == "Alias" else f"{_FOLDER}/{name}.{_SUFFIXES[key]}/{unit}")
    return found


def _unit_file(root: Path, unit: str) -> str | None:
    texts = (read_inside(root, name, _MAX_UNIT) for name in (f"{_FOLDER}/{unit}", *_vendor(unit)))
    return next((text for text in texts if text is not None), None)
