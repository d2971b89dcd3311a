"""Reads an expanded description, see `ims.recipes.expansion`: name, repositories, packages."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from lxml import etree

from ims.errors import InputError
from ims.recipes.expansion.selection import TRUE
from ims.recipes.opaque import OBSERVED, opaque_inputs

APT = "apt"
PACKAGE_MANAGERS = (APT, "zypper", "dnf4")
MAX_REPOSITORIES = 200
MAX_PACKAGES = 20_000
MAX_LOGINS = 1000
MAX_WORD = 2048
"""Characters of an address, a name or a version."""
MAX_SHOWN = 100

_VARIABLE = re.compile(r"\$(?:\{(?P<name>\w+)\}|(?P<other>\w+))")


@dataclass(frozen=True)
class Repository:
    """A package repository of a recipe. `needs_login` states whether the recipe has a login for it.

    `metadata_url` is the address of its index or, if it `is_list`, of a list of mirrors.
    """

    url: str
    metadata_url: str
    needs_login: bool = False
    is_list: bool = False

    @property
    def name(self) -> str:
        """The address without a login, for messages."""
        return redact(self.url)

    @property
    def lacks_login(self) -> bool:
        """Whether the repository needs a login that was removed from its address."""
        return self.needs_login and redact(self.metadata_url) == self.metadata_url

    def without_login(self) -> Self:
        """The repository without user and password, for everything that is stored."""
        return replace(self, url=redact(self.url), metadata_url=redact(self.metadata_url))


@dataclass(frozen=True)
class Description:
    """The parts of a description that the workflows need."""

    name: str
    version: str
    package_manager: str
    repositories: tuple[Repository, ...]
    packages: tuple[str, ...]
    logins: tuple[str, ...] = ()
    """The passwords of the repositories, which must not be stored or printed."""
    opaque: tuple[str, ...] = ()
    """The inputs of a build that are not observed, one phrase for each."""


def redact(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def read_description(root: etree._Element, network: str = "repositories", hosts: Sequence[str] = ()) -> Description:
    """Read an expanded description, for builds with a network as in `.ims_recipe.yaml`.

    Raises InputError if it names no package manager that builds have, or too much.
    """
    manager = (root.findtext("preferences/packagemanager") or "").strip()
    if not manager:
        raise InputError("the description names no <packagemanager>", "Add one to <preferences>")
    if manager not in PACKAGE_MANAGERS:
        raise InputError(
            f"the package manager {manager[:MAX_SHOWN]} is not supported",
            f"Set <packagemanager> to {', '.join(PACKAGE_MANAGERS)}",
        )
    description = Description(
        name=root.get("name", ""),
        version=(root.findtext("preferences/version") or "").strip(),
        package_manager=manager,
        repositories=tuple(repository for _, repository in build_repositories(root, manager) if repository),
        packages=tuple(element.get("name", "").strip() for element in root.iterfind("packages/package")),
        logins=tuple(filter(None, _passwords(root))),
        opaque=opaque_inputs(root, _addresses(root), network, hosts),
    )
    _check_size(description)
    return description


def _check_size(description: Description) -> None:
    """Raises InputError if a description has more than tasks should pass to each other."""
    found = (
        ("repositories", description.repositories, MAX_REPOSITORIES),
        ("packages", description.packages, MAX_PACKAGES),
        ("logins", description.logins, MAX_LOGINS),
    )
    for what, items, limit in found:
        if len(items) > limit:
            raise InputError(f"the description has {len(items)} {what}, more than {limit}")
    addresses = [repository.url for repository in description.repositories]
    words = (description.name, description.version, description.package_manager, *addresses, *description.packages)
    if long := next((word for word in words if len(word) > MAX_WORD), None):
        raise InputError(f"the description has a value of {len(long)} characters, more than {MAX_WORD}: {long[:100]}")


def build_repositories(root: etree._Element, manager: str) -> Iterator[tuple[etree._Element, Repository | None]]:
    """The repositories that kiwi uses for a build, or None in place of those whose address is not http or https."""
    for element, url in _used_repositories(root):
        try:
            remote = urlsplit(url).scheme in OBSERVED
            url = url if manager == APT else _without_variables(url, root)
            index = _metadata_url(url, manager, element)
            is_list = _is_list(element, manager)
            yield element, Repository(url, index, redact(index) != index, is_list) if remote else None
        except ValueError as error:
            shown = url.rpartition("@")[2]
            raise InputError(f"the description has a repository whose address is invalid: {shown}: {error}") from None


def _used_repositories(root: etree._Element) -> Iterator[tuple[etree._Element, str]]:
    """The repositories that kiwi uses for a build, with their addresses."""
    for element in root.iterfind("repository"):
        source = element.find("source")
        if element.get("imageonly") not in TRUE:
            yield element, (source.get("path", "") if source is not None else "").strip()


def _addresses(root: etree._Element) -> list[str]:
    """The addresses of the repositories that kiwi uses for a build, without logins."""
    return [redact(url) if "@" in url else url for _, url in _used_repositories(root)]


def _metadata_url(url: str, manager: str, repository: etree._Element) -> str:
    """The address of the index that the package manager reads first."""
    url = _with_login(url, repository)
    if manager == APT:
        distribution = repository.get("distribution")
        return f"{url.rstrip('/')}/dists/{distribution}/InRelease" if distribution else f"{url.rstrip('/')}/Release"
    if _is_list(repository, manager):
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/repodata/repomd.xml", fragment=""))


def _is_list(repository: etree._Element, manager: str) -> bool:
    return manager != APT and repository.get("sourcetype", "baseurl") != "baseurl"


def _without_variables(url: str, root: etree._Element) -> str:
    """An address with the values of the variables that zypper and dnf know. Without <release-version>, one stays."""
    values = {"basearch": platform.machine(), "arch": platform.machine()}
    if release := (root.findtext("preferences/release-version") or "").strip():
        values["releasever"] = release
    return _VARIABLE.sub(lambda match: values.get(match["name"] or match["other"], match[0]), url)


def _with_login(url: str, repository: etree._Element) -> str:
    user, password = repository.get("username"), repository.get("password")
    if not (user and password):
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"))


def _passwords(root: etree._Element) -> Iterator[str]:
    """The passwords of all repositories, as they are and as the recipe writes them."""
    for repository in root.iterfind("repository"):
        yield repository.get("password", "")
        for source in repository.iterfind("source"):
            with suppress(ValueError):
                parts = urlsplit(source.get("path", "").strip())
                password = parts.password or parts.username or ""  # a user without a password is a token
                yield from (password, unquote(password))
