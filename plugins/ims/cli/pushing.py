"""Turn a recipe folder into a registered recipe."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ims.cli.output import say
from ims.errors import InputError
from ims.recipes import archive
from ims.recipes.litter import listed

if TYPE_CHECKING:
    from ims.client import ImsClient
    from ims.recipes.checking import Findings
    from ims.recipes.reading import RenderedRecipe
    from ims.storage.objects import ObjectName, ObjectStore

PACKAGE_SECONDS = 120
"""How long the check of the packages may take, with the download of the indexes."""


def push(client: ImsClient, store: ObjectStore, folder: Path, **fields: Any) -> dict[str, Any]:
    """Pack a recipe folder, check it, upload it under a new key and register it; returns the record. Raises ImsError.

    If something is wrong with the recipe, all of it is printed, and nothing is uploaded.
    """
    from ims.settings import settings
    from ims.storage.objects import ObjectName

    place = ObjectName(settings().recipes_bucket, f"recipes/{uuid4()}/recipe.tar.gz")
    return push_to(place, client, store, folder, **fields)


def push_to(place: ObjectName, client: ImsClient, store: ObjectStore, folder: Path, **fields: Any) -> dict[str, Any]:
    """Like `push`, but uploads the archive to `place`."""
    with TemporaryDirectory() as temporary:
        packed = Path(temporary) / "recipe.tar.gz"
        left_out = archive.pack(folder, packed)
        notes = _check(folder, packed, fields)
        stored = store.upload(packed, place, {})
    if left_out:
        say(f"left out: {listed(left_out)}")
    link = {"type": "s3", "path": str(place), "etag": stored.etag}
    record = dict(client.create("recipes", recipe_type="kiwi-ng", link=link, **fields))
    for note in notes:
        say(note)
    return record


def _check(folder: Path, packed: Path, fields: Mapping[str, Any]) -> list[str]:
    """Returns notes about what could not be checked.

    Raises InputError if a build of such a recipe would fail. Prints the problems if there are several.
    """
    from ims.recipes.checking import Built, find_problems
    from ims.settings import settings

    limits = settings()
    variables = {item["key"]: item["value"] for item in fields.get("template_dictionary") or ()}
    found = find_problems(
        folder,
        packed,
        variables,
        Built(fields.get("arch", "x86_64"), fields.get("profiles") or ()),
        max_bytes=limits.recipe_max_mib * 1024 * 1024,
        max_files=limits.recipe_max_files,
    )
    missing, notes = _missing_packages(found, variables)
    problems = [*found.problems, *missing]
    if len(problems) == 1:
        raise InputError(problems[0])
    for problem in problems:
        say(problem)
    if problems:
        raise InputError(f"the recipe has {len(problems)} problems", "Correct them, then push it again")
    return notes


def _missing_packages(found: Findings, variables: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Returns a problem if no repository has some packages of a recipe, or a note if that cannot be checked."""
    from ims.recipes.package_request import MissingPackagesError, UnknownPackagesError
    from ims.recipes.secrets import PREFIX

    if found.recipe is None and found.problems:
        return [], []
    try:
        if found.recipe is None:
            raise UnknownPackagesError("kiwi-ng is not installed here")
        if any(value.startswith(PREFIX) for value in variables.values()):
            raise UnknownPackagesError("only the service knows the secrets of the recipe")
        check_packages(found.recipe)
    except MissingPackagesError as error:
        return [error.reason], []
    except UnknownPackagesError as error:
        return [], [f"the packages were not checked here, but the job will check them: {error.reason}"]
    return [], []


def check_packages(recipe: RenderedRecipe) -> None:
    """Ask the solver of the package manager, in a sandbox and with the network of the recipe's builds.

    Raises MissingPackagesError if no repository has some of the packages, and UnknownPackagesError if that cannot be
    checked here: it needs root, what a build needs, and repositories that can be reached from here.
    """
    from ims import masking
    from ims.recipes.package_request import UnknownPackagesError

    if os.geteuid() != 0:
        raise UnknownPackagesError("only root can make the sandbox for it")
    if recipe.request is None:
        raise UnknownPackagesError(recipe.unknown)
    if recipe.digests.bootstrap_script:
        raise UnknownPackagesError("post_bootstrap.sh may add repositories")
    from ims.steps.package_prediction import ask_solver

    masking.hide(recipe.description.logins)
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        ask_solver(recipe.request, Path(folder), recipe.network, PACKAGE_SECONDS)
