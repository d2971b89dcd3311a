"""Renders the templates of a recipe, which `.ims_recipe_template.yaml` lists, with the dictionary of its record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ims.documents import DocumentError, read_yaml
from ims.errors import InputError

TEMPLATE_LIST = ".ims_recipe_template.yaml"
MAX_LIST = 1024 * 1024
MAX_TEMPLATE = 4 * 1024 * 1024
MAX_TEMPLATES = 16 * 1024 * 1024
"""Characters of all templates of a recipe together."""
MAX_RENDERED = 16 * 1024 * 1024
"""Characters of all rendered templates together."""
MEMORY = 512 * 1024 * 1024
PROCESSOR_SECONDS = 10
SECONDS = 60
"""How long rendering may take, also if it only waits for a processor."""
_PROGRAM = "ims.recipes.rendering"
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LANG")


class TemplateList(BaseModel):
    """The content of `.ims_recipe_template.yaml`."""

    model_config = ConfigDict(extra="ignore")

    template_files: list[str] = Field(default_factory=list)


def render(folder: Path, variables: Mapping[str, str]) -> list[str]:
    """Render the templates of a recipe in place; returns their names.

    Raises InputError if the recipe has templates but the dictionary is empty, if a variable that is printed or a file
    is missing, if a file is outside of the recipe, or if a template is invalid.
    """
    names = _read_list(folder / TEMPLATE_LIST)
    if names and not variables:
        raise InputError(
            f"the recipe has templates ({', '.join(names)}) but its record has no template_dictionary",
            "Set template_dictionary in the record",
        )
    rendered = _render_all(folder, _read_templates(folder, names), variables) if names else {}
    for name, text in rendered.items():
        (folder / name).write_text(text)
    return names


def _render_all(folder: Path, templates: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Render templates, given by their names, in a process that can be ended. They may include files of the folder.

    Raises InputError with the name of the template if one is invalid, and if they exceed a limit.
    """
    limits = {"seconds": PROCESSOR_SECONDS, "memory": MEMORY, "characters": MAX_RENDERED, "included": MAX_TEMPLATE}
    request = {"folder": str(folder), "templates": dict(templates), "variables": dict(variables), **limits}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", _PROGRAM],
            input=json.dumps(request),
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _too_expensive(templates) from None
    if done.returncode < 0:
        raise _too_expensive(templates)
    answer = json.loads(done.stdout)
    if "failed" in answer:
        raise InputError(
            f"the template {answer['failed']} cannot be rendered: {answer['reason']}",
            f"The template_dictionary defines: {', '.join(sorted(variables))}",
        )
    return dict(answer["rendered"])


def _too_expensive(templates: Mapping[str, str]) -> InputError:
    return InputError(
        f"the templates ({', '.join(templates)}) cannot be rendered with {PROCESSOR_SECONDS} s of processor time, "
        f"{SECONDS} s and {MEMORY} bytes of memory",
        "Remove loops over large ranges",
    )


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        return []
    try:
        return TemplateList.model_validate(read_yaml(path, MAX_LIST) or {}).template_files
    except DocumentError as error:
        reason = f": {error}"
    except ValidationError:
        reason = ""
    raise InputError(f"{TEMPLATE_LIST} cannot be read{reason}", "Write YAML with a list named template_files")


def _read_templates(folder: Path, names: list[str]) -> dict[str, str]:
    """The templates by their names. Raises InputError if they are not files of the recipe, or too large."""
    texts = {}
    for name in names:
        path = _inside(folder, name)
        try:
            texts[name] = path.read_text()
        except UnicodeDecodeError as error:
            raise InputError(f"the template {name} cannot be rendered: {error}") from None
        if (size := sum(map(len, texts.values()))) > MAX_TEMPLATES:
            raise InputError(f"the templates are too large: with {name} they have {size} of {MAX_TEMPLATES} characters")
    return texts


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    # Path.is_file() would raise an error for names that no file can have.
    if not os.path.isfile(path) or not path.resolve().is_relative_to(folder.resolve()):  # noqa: PTH113
        raise InputError(f"{TEMPLATE_LIST} names {name!r}, which is not a file of the recipe")
    if path.stat().st_size > MAX_TEMPLATE:
        raise InputError(f"the template {name} is larger than {MAX_TEMPLATE} bytes")
    return path


def template_names(folder: Path) -> list[str]:
    """The names of the templates of a recipe. Raises InputError if the list cannot be read."""
    return _read_list(folder / TEMPLATE_LIST)
