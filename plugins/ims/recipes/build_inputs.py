"""The build inputs of an image: everything that decides its content.

They are stored with the image and compared with the inputs that a new build would have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ims.errors import InputError
from ims.files import file_digest
from ims.recipes import archive
from ims.recipes.expansion import Expansion

MAX_BYTES = 16 * 1024 * 1024
BOOTSTRAP_SCRIPT = "post_bootstrap.sh"
"""The only script that runs before the packages are installed."""

Word = Annotated[str, Field(max_length=1000)]


class Package(BaseModel):
    """A package of a repository. `version` is complete: `[epoch:]version[-release]`."""

    model_config = ConfigDict(frozen=True)

    name: Word
    version: Word
    arch: Word
    checksum: Word


class BuildInputs(BaseModel):
    """Digests of a rendered recipe and of the indexes of its repositories, and all other build inputs.

    `files` covers the overlay and the scripts. `boot_files` names the files that the job looks up in /boot. `packages`
    are the packages that are installed, sorted. If they cannot be predicted, it is None and `unknown` says why.
    `opaque` are the inputs that are not observed, as far as the recipe tells. `downloads` are those that the build
    added, because scripts used the network; None if that is unknown. `hosts` are the HOST:PORT that it reached, which
    is not compared.
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
    opaque: tuple[str, ...] = ()
    downloads: tuple[Word, ...] | None = None
    hosts: tuple[str, ...] | None = None

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Parse build inputs. Raises InputError if the data is something else."""
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            raise InputError("the build inputs of the image cannot be read") from None

    def with_packages(self, packages: Iterable[Package]) -> Self:
        """A copy with packages."""
        ordered = sorted(packages, key=lambda package: (package.name, package.arch, package.version))
        return self.model_copy(update={"packages": tuple(ordered), "unknown": ""})

    def without_packages(self, reason: str) -> Self:
        """A copy without packages, for the `reason` that they cannot be predicted."""
        return self.model_copy(update={"packages": None, "unknown": reason})

    @property
    def packages_digest(self) -> str | None:
        """A digest of all packages, or None if they are unknown."""
        if self.packages is None:
            return None
        text = "\n".join(package.model_dump_json() for package in self.packages)
        return hashlib.sha256(text.encode()).hexdigest()


def recipe_digests(folder: Path, expansion: Expansion) -> dict[str, str]:
    """The digests of a rendered recipe: `description`, `bootstrap_script`, and `files` for all other files.

    That of the description covers its file, which scripts find in `/image`, and what it includes.
    """
    description = hashlib.sha256((folder / expansion.file).read_bytes() + b"\0" + expansion.text.encode())
    script = folder / BOOTSTRAP_SCRIPT
    return {
        "description": description.hexdigest(),
        "bootstrap_script": file_digest(script) if script.is_file() else "",
        "files": archive.digest(folder, without=(expansion.file, BOOTSTRAP_SCRIPT), all_modes=True),
    }
