"""The optional file `.ims_recipe.yaml` of a recipe folder, which sets fields of the recipe's record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ims.errors import InputError

REGISTRATION = ".ims_recipe.yaml"
MAX_BYTES = 64 * 1024

Word = Annotated[str, Field(min_length=1, max_length=255)]


class Registration(BaseModel):
    """The fields of the record that is created when the folder is pushed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Word | None = None
    linux_distribution: Word | None = None
    nightly: bool | None = None


def read_registration(folder: Path) -> Registration:
    """Read the file of a folder, if it exists. Raises InputError if it is invalid."""
    path = folder / REGISTRATION
    if not path.exists():
        return Registration()
    try:
        with path.open("rb") as file:
            return Registration.model_validate(yaml.safe_load(file.read(MAX_BYTES)) or {})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()
        )
        raise InputError(f"{path} is invalid: {problems}", "Allowed are name, linux_distribution and nightly") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
