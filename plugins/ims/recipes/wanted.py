"""What a package manager is asked to install for a recipe, where that can be told from its description alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from ims.errors import ImsError
from ims.recipes.description import APT, machine_repositories, read_xml

# Of what else a description may hold package managers have rules of their own.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9+._-]*[A-Za-z0-9+])?")
_WORDS = re.compile(r"[A-Za-z0-9._/-]+( [A-Za-z0-9._/-]+)*")
_URL = re.compile(r"https?://[\x21-\x7e]+")
_TYPES = {APT: "apt-deb"}
_INSTALLED, _REMOVED = ("bootstrap", "image"), ("delete", "uninstall")


class UnknownPackagesError(ImsError):
    """Which packages a build would install cannot be told without building."""


@dataclass(frozen=True)
class Source:
    """A repository that packages are taken from; `metadata_url` is that of its index, with a login if it needs one.

    A `priority` of 0 is none, without a `distribution` it is flat.
    """

    url: str
    metadata_url: str
    priority: int
    distribution: str | None
    components: str


@dataclass(frozen=True)
class Wanted:
    """What is installed: `packages` by name, with what they recommend or not. `removed` are names that go again."""

    package_manager: str
    sources: tuple[Source, ...]
    packages: tuple[str, ...]
    removed: frozenset[str]
    recommended: bool


def wanted_packages(folder: Path, arch: str) -> Wanted:
    """Read what a recipe wants. Raises UnknownPackagesError: it uses something whose outcome only kiwi knows."""
    root = read_xml(folder)
    manager = (root.findtext("preferences/packagemanager") or "").strip()
    _refuse(root)
    installed, removed, kinds = [], [], set()
    for section in root.iterfind("packages"):
        kind = section.get("type", "")
        names = _names(section, arch)
        if kind in _REMOVED:
            removed += names
        elif kind in _INSTALLED:
            installed += names
            kinds.add(section.get("patternType", "onlyRequired"))
        elif names:
            raise UnknownPackagesError(f"it has packages of the type {kind}")
    if len(kinds) > 1:
        raise UnknownPackagesError("its sections of packages differ in patternType")
    return Wanted(
        manager, tuple(_sources(root, manager)), tuple(installed), frozenset(removed), kinds == {"plusRecommended"}
    )


def _refuse(root: etree._Element) -> None:
    for name in ("include", "packages/namedCollection", "packages/product", "packages/ignore", "packages/archive"):
        if root.find(name) is not None:
            raise UnknownPackagesError(f"it has <{name.rpartition('/')[2]}>")
    for section in (*root.iterfind("packages"), *root.iterfind("preferences"), *root.iterfind("repository")):
        if section.get("profiles"):
            raise UnknownPackagesError("it has profiles")


def _names(section: etree._Element, arch: str) -> list[str]:
    found = []
    for package in section.iterfind("package"):
        name = package.get("name", "")
        if package.get("arch") and arch not in package.get("arch", "").split(","):
            continue
        if not _NAME.fullmatch(name):
            raise UnknownPackagesError(f"{name!r} is no plain name of a package")
        found.append(name)
    return found


def _sources(root: etree._Element, manager: str) -> Iterator[Source]:
    for element, repository in machine_repositories(root, manager):
        if repository is None:
            raise UnknownPackagesError("it has a repository that is not reached by http or https")
        priority = element.get("priority", "0")
        source = Source(
            url=repository.url,
            metadata_url=repository.metadata_url,
            priority=int(priority) if priority.isdecimal() else 0,
            distribution=element.get("distribution"),
            components=element.get("components", "main"),
        )
        words = f"{source.distribution or 'flat'} {source.components}"
        plain = element.get("sourcetype", "baseurl") == "baseurl" and not element.get("customize")
        kind = element.get("type") in (None, _TYPES.get(manager, "rpm-md"))
        if not (plain and kind and _URL.fullmatch(source.metadata_url) and _WORDS.fullmatch(words)):
            raise UnknownPackagesError(f"its repository {repository.name} is of an unusual kind")
        yield source
