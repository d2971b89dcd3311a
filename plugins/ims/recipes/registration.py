"""The optional file `.ims_recipe.yaml` of a recipe folder.

It sets fields of the recipe's record, which `ims recipes push` reads, and the network of builds, which builds read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ims.documents import DocumentError, read_yaml
from ims.errors import InputError

REGISTRATION = ".ims_recipe.yaml"
MAX_BYTES = 64 * 1024

MAX_HOSTS = 100

Word = Annotated[str, Field(min_length=1, max_length=255)]


class Registration(BaseModel):
    """The fields of the record that is created when the folder is pushed, and the network of builds.

    With the network `repositories`, a build reaches the repositories of the description and `network_hosts`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Word | None = None
    linux_distribution: Word | None = None
    nightly: bool | None = None
    profiles: list[Word] | None = Field(default=None, max_length=20)
    kernel_file_name: Word | None = None
    initrd_file_name: Word | None = None
    kernel_parameters_file_name: Word | None = None
    network: Literal["repositories", "open"] = "repositories"
    network_hosts: list[Word] = Field(default_factory=list, max_length=MAX_HOSTS)

    @property
    def record_fields(self) -> dict[str, Any]:
        """The fields of the record that the file sets."""
        return self.model_dump(exclude={"network", "network_hosts"}, exclude_none=True)


def read_registration(folder: Path) -> Registration:
    """Read the file of a folder, if it exists. Raises InputError if it is invalid."""
    path = folder / REGISTRATION
    if not path.is_file():
        return Registration()
    try:
        return Registration.model_validate(read_yaml(path, MAX_BYTES) or {})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()
        )
        raise InputError(
            f"{path} is invalid: {problems}", f"Allowed are {', '.join(Registration.model_fields)}"
        ) from None
    except DocumentError as error:
        raise InputError(f"{path} is not YAML: {error}") from None
