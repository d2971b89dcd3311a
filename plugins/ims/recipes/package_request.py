"""The packages that a recipe requests from its package manager, as far as the description alone decides that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lxml import etree

from ims.errors import ImsError
from ims.recipes.description import APT, build_repositories

# Package managers have their own rules for all other names that a description may contain.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9+._-]*[A-Za-z0-9+])?")
_WORDS = re.compile(r"[A-Za-z0-9._/-]+( [A-Za-z0-9._/-]+)*")
_URL = re.compile(r"https?://[\x21-\x7e]+")
_TYPES = {APT: "apt-deb"}
_SHOWN = 20
_REMOVED = ("delete", "uninstall")


class UnknownPackagesError(ImsError):
    """The packages that a build would install cannot be predicted."""


class MissingPackagesError(UnknownPackagesError):
    """No repository has these packages, so a build would fail."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        shown = ", ".join(self.names[:_SHOWN]) + (", …" if len(self.names) > _SHOWN else "")
        what = "the packages:" if len(self.names) > 1 else "a package"
        super().__init__(f"no repository has {what} {shown}")


@dataclass(frozen=True)
class Source:
    """A package repository. `metadata_url` is the address of its index, with a login if the recipe has one.

    A `priority` of 0 means none. A repository of apt without a `distribution` is flat.
    """

    url: str
    metadata_url: str
    priority: int
    distribution: str | None
    components: str


@dataclass(frozen=True)
class PackageRequest:
    """The names of the packages to install. `recommended` states whether to also install what they recommend.

    `removed` are the names of packages that are removed later.
    """

    package_manager: str
    sources: tuple[Source, ...]
    packages: tuple[str, ...]
    removed: frozenset[str]
    recommended: bool


def read_package_request(root: etree._Element) -> PackageRequest:
    """Read the package request of an expanded description.

    Raises UnknownPackagesError if the recipe uses a feature whose result only kiwi can determine.
    """
    manager = (root.findtext("preferences/packagemanager") or "").strip()
    _reject_unpredictable(root)
    installed, removed, kinds = [], [], set()
    for section in root.iterfind("packages"):
        kind = section.get("type", "")
        names = _names(section)
        if kind in _REMOVED:
            removed += names
        else:
            installed += names
            kinds.add(section.get("patternType", "onlyRequired"))
    if len(kinds) > 1:
        raise UnknownPackagesError("the package sections of the recipe differ in patternType")
    return PackageRequest(
        manager, tuple(_sources(root, manager)), tuple(installed), frozenset(removed), kinds == {"plusRecommended"}
    )


def _reject_unpredictable(root: etree._Element) -> None:
    for name in ("packages/namedCollection", "packages/product", "packages/ignore", "packages/archive"):
        if root.find(name) is not None:
            raise UnknownPackagesError(f"the recipe has <{name.rpartition('/')[2]}>")
    if any(element.get("derived_from") for element in root.iterfind("preferences/type")):
        raise UnknownPackagesError("the recipe has a base image")


def _names(section: etree._Element) -> list[str]:
    found = []
    for package in section.iterfind("package"):
        name = package.get("name", "").strip()
        if not _NAME.fullmatch(name):
            raise UnknownPackagesError(f"the recipe has {name!r}, which is not a plain package name")
        found.append(name)
    return found


def _sources(root: etree._Element, manager: str) -> Iterator[Source]:
    for element, repository in build_repositories(root, manager):
        if repository is None:
            raise UnknownPackagesError("the recipe has a repository whose address is not http or https")
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
            raise UnknownPackagesError(f"the repository {repository.name} is of an unusual kind")
        yield source
