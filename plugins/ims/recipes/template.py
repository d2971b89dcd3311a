"""Renders the templates of a recipe, which `.ims_recipe_template.yaml` lists, with the dictionary of its record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ims.errors import InputError

TEMPLATE_LIST = ".ims_recipe_template.yaml"
MAX_TEMPLATE = 4 * 1024 * 1024


class TemplateList(BaseModel):
    """The content of `.ims_recipe_template.yaml`."""

    model_config = ConfigDict(extra="ignore")

    template_files: list[str] = Field(default_factory=list)


def render(folder: Path, variables: Mapping[str, str]) -> list[str]:
    """Render the templates of a recipe in place; returns their names.

    Raises InputError if the recipe has templates but the dictionary is empty, if a variable or a file is missing, if
    a file is outside of the recipe, or if a template is invalid.
    """
    names = _read_list(folder / TEMPLATE_LIST)
    if names and not variables:
        raise InputError(
            f"the recipe has templates ({', '.join(names)}) but its record has no template_dictionary",
            "Set template_dictionary in the record",
        )
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    for name in names:
        path = _inside(folder, name)
        try:
            text = environment.from_string(path.read_text()).render(dict(variables))
        except Exception as error:  # a template can raise anything
            raise InputError(
                f"the template {name} cannot be rendered: {error}",
                f"The template_dictionary defines: {', '.join(sorted(variables))}",
            ) from None
        path.write_text(text)
    return names


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        return []
    try:
        return TemplateList.model_validate(yaml.safe_load(path.read_text()) or {}).template_files
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError):
        raise InputError(f"{TEMPLATE_LIST} cannot be read", "Write YAML with a list named template_files") from None


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    # Path.is_file() would raise an error for names that no file can have.
    if not os.path.isfile(path) or not path.resolve().is_relative_to(folder.resolve()):  # noqa: PTH113
        raise InputError(f"{TEMPLATE_LIST} names {name!r}, which is not a file of the recipe")
    if path.stat().st_size > MAX_TEMPLATE:
        raise InputError(f"the template {name} is larger than {MAX_TEMPLATE} bytes")
    return path
