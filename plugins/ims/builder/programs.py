"""The programs that take part in a build, with their versions, and the settings that change the image."""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ims import __version__
from ims.errors import ConfigurationError
from ims.settings import settings

OTHER_PARTS = frozenset(
    {
        *("api", "backup", "cli", "client", "connections", "demo", "doctor", "executor", "gateway", "operators"),
        *("params", "pools", "records", "scheduler", "sensors", "stack", "triggers", "ui", "workflows"),
    }
)
"""The parts of this project that neither steps nor `runtime` import. All others take part in builds."""
LIBRARIES = ("Jinja2", "kiwi", "lxml", "PyYAML")
"""The Python packages that read recipes."""
NO_MANAGER = "none"
"""The package manager of customizations."""
_MANAGERS = {"apt": ("apt", "dpkg"), "zypper": ("zypper", "rpm"), NO_MANAGER: ()}
_DNF = ("dnf", "rpm")
_ALWAYS = ("bash", "coreutils", "gnupg", "gpgv", "openssl", "rsync", "tar", "util-linux")
"""Debian packages of programs that kiwi and this project start, whatever the package manager."""
_FORMAT = "${db:Status-Status}\\t${Package}\\t${Version}\\t${Provides}\\t${Pre-Depends}, ${Depends}\\n"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True)
class _Installed:
    """The version of a Debian package, and the names of what it needs."""

    version: str
    needs: frozenset[str]


def versions(package_manager: str) -> dict[str, str]:
    """The versions of the programs that build an image with a package manager, and the settings that change the image.

    `needed` is a digest of the versions of all Debian packages that these programs need, `code` one of this project.
    Raises ConfigurationError if a program is missing.
    """
    own = settings()
    tools = (*_MANAGERS.get(package_manager, _DNF), "squashfs-tools")
    packages = _packages()
    if missing := [name for name in tools if name not in packages]:
        raise ConfigurationError(f"programs that build images are missing: {', '.join(missing)}", "Run: make setup")
    return {
        "ims": __version__,
        "code": code_digest(Path(__file__).parents[1]),
        "python": platform.python_version(),
        **{name.lower(): version(name) for name in LIBRARIES},
        **{name: packages[name].version for name in tools},
        "needed": _digest(f"{name} {packages[name].version}" for name in _closure((*tools, *_ALWAYS), packages)),
        "squashfs_level": str(own.squashfs_level),
        "squashfs_splice_builds": str(own.squashfs_splice_builds),
        "image_secrets": own.image_secrets,
    }


@cache
def code_digest(package: Path) -> str:
    """A digest of the source of this project in `package`, as far as it takes part in builds and customizations."""
    parts = [part for part in package.iterdir() if part.stem not in OTHER_PARTS]
    files = [file for part in parts for file in (part, *part.rglob("*")) if "__pycache__" not in file.parts]
    return _digest(
        f"{file.relative_to(package)} {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for file in sorted(files)
        if file.is_file()
    )


@cache
def _packages() -> Mapping[str, _Installed]:
    """The installed Debian packages by their names and by those that they provide."""
    query = ["dpkg-query", "--show", "--showformat", _FORMAT]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(f"the programs that build images are not known: {error}", "Run: make setup") from None
    found: dict[str, _Installed] = {}
    for line in done.stdout.splitlines():
        status, name, number, provides, needs = line.split("\t")
        if status == "installed":
            package = _Installed(f"{name} {number}", frozenset(_names(needs)))
            for provided in _names(provides):
                found.setdefault(provided, package)
            found[name] = _Installed(number, package.needs)
    return found


def _names(relations: str) -> Iterable[str]:
    """The names in a list of relations, with all alternatives."""
    items = (item.strip() for item in re.split(r"[,|]", relations))
    return [match[0] for item in items if (match := _NAME.match(item))]


def _closure(names: Iterable[str], packages: Mapping[str, _Installed]) -> list[str]:
    """The names of packages and of all that they need, as far as these are installed, sorted."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in packages and name not in found:
            found.add(name)
            pending += packages[name].needs
    return sorted(found)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
