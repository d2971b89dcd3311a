"""What decides an image: kept beside its manifest, and compared with what would decide it now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ims import __version__
from ims.errors import InputError
from ims.recipes import archive
from ims.recipes.archive import CONFIG

NAME = "provenance.json"
MAX_BYTES = 16 * 1024 * 1024
BOOTSTRAP_SCRIPT = "post_bootstrap.sh"
"""The one script that runs before the packages are installed."""


class Package(BaseModel):
    """A package as a repository has it; `version` is the whole: `[epoch:]version[-release]`."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    arch: str
    checksum: str


class Provenance(BaseModel):
    """Digests of a rendered recipe and of its repositories' indexes, and what else has a say.

    `files` are the overlay and the scripts; `boot_files` names what is looked up in /boot. `packages` is what the
    package manager would install, in order; None where that cannot be told, and `unknown` says why.
    """

    model_config = ConfigDict(frozen=True)

    description: str
    bootstrap_script: str
    files: str
    arch: str
    builder: dict[str, str]
    ca_certificate: str
    boot_files: dict[str, str | None]
    repositories: dict[str, str]
    packages: tuple[Package, ...] | None = None
    unknown: str = ""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read one that was written. Raises InputError: it is something else."""
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            raise InputError("the image's provenance cannot be read") from None

    def with_packages(self, packages: Iterable[Package]) -> Self:
        """The same with the packages that would be installed."""
        ordered = sorted(packages, key=lambda package: (package.name, package.arch, package.version))
        return self.model_copy(update={"packages": tuple(ordered), "unknown": ""})

    def without_packages(self, why: str) -> Self:
        """The same where the packages cannot be told."""
        return self.model_copy(update={"packages": None, "unknown": why})

    @property
    def packages_digest(self) -> str | None:
        """One word for all packages; None where they are not known."""
        if self.packages is None:
            return None
        text = "\n".join(package.model_dump_json() for package in self.packages)
        return hashlib.sha256(text.encode()).hexdigest()


def recipe_digests(folder: Path) -> dict[str, str]:
    """The digests of a rendered recipe: `description`, `bootstrap_script` and `files`, which is all the rest."""
    found = {"description": folder / CONFIG, "bootstrap_script": folder / BOOTSTRAP_SCRIPT}
    digests = {name: file_digest(path) if path.is_file() else "" for name, path in found.items()}
    return {**digests, "files": archive.digest(folder, without=(CONFIG, BOOTSTRAP_SCRIPT))}


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own_versions() -> dict[str, str]:
    """The versions of kiwi-ng and of this project."""
    return {"ims": __version__, "kiwi": version("kiwi")}
