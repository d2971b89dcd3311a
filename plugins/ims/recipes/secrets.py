"""Secrets of recipes. A template variable whose value is `secret:NAME` refers to a secret that the site provides.

A step resolves references when it renders the templates of a recipe. Secrets come from Airflow on one machine, and from
a mounted Secret in a pod. Both contain only what an administrator made available to recipes, and nothing of the
service's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, Field

from ims.errors import InputError
from ims.masking import Secrets

PREFIX = "secret:"
MOUNTED = Path("/etc/ims/recipe-secrets")
"""The folder of a pod in which the Secret of recipes is mounted: one file for each secret."""
MAX_SECRET = 65536
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_LOGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@")
_HOW = "An administrator provides secrets: see Secrets in docs/write-a-recipe.md"


def secret_name(value: str) -> str | None:
    """The name of the secret that the value of a template variable refers to; None if it is a plain value.

    Raises InputError if the value starts like a reference but has no valid name.
    """
    if not value.startswith(PREFIX):
        return None
    name = value.removeprefix(PREFIX)
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"{name[:60]!r} is not the name of a secret", "A name has letters, digits, dots, hyphens and underscores"
        )
    return name


def has_login(value: str) -> bool:
    """Whether a value contains a URL with a password. A secret must not be stored by value: every user may read it."""
    return _LOGIN.search(value) is not None


def secret_names(dictionaries: Iterable[Mapping[str, str]]) -> set[str]:
    """The names of all secrets that template dictionaries refer to. Invalid references are left to `TemplateValues`."""
    values = (value for variables in dictionaries for value in variables.values() if value.startswith(PREFIX))
    return {name for value in values if _NAME.fullmatch(name := value.removeprefix(PREFIX))}


class TemplateValues(BaseModel):
    """The template dictionaries of recipes by their ids, and the secrets that these refer to.

    The task adds this to the input of a step when the step starts, so that Airflow does not store it. In pods `secrets`
    is empty: they are mounted.
    """

    dictionaries: dict[str, dict[str, str]] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict, repr=False)

    def resolve(self, recipe_id: str) -> tuple[dict[str, str], Secrets]:
        """The variables of a recipe with all references resolved, and the secrets among them.

        Raises InputError if a secret is unknown.
        """
        variables = dict(self.dictionaries.get(recipe_id, {}))
        secrets = Secrets()
        for key, value in variables.items():
            if (name := secret_name(value)) is not None:
                variables[key] = found = self._find(key, name)
                (secrets.users if name.endswith(".login") else secrets.passwords).append(found)
        return variables, secrets

    def _find(self, key: str, name: str) -> str:
        if (value := self.secrets.get(name, _read_mounted(name))) is None:
            raise InputError(f"template_dictionary: {key} refers to the secret {name}, which does not exist", _HOW)
        return value


def _read_mounted(name: str) -> str | None:
    try:
        with (MOUNTED / name).open() as file:
            return file.read(MAX_SECRET).removesuffix("\n")
    except OSError:
        return None
