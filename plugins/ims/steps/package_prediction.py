"""Predicts which packages a build installs: asks the solver of the package manager, in the sandbox."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ims import cache
from ims.builder.host import BUNDLE
from ims.errors import ImsError
from ims.masking import masked
from ims.recipes import solution_cache
from ims.recipes.build_inputs import BuildInputs, Package
from ims.recipes.metadata import index_digests
from ims.recipes.network import RecipeNetwork
from ims.recipes.package_request import MissingPackagesError, PackageRequest, UnknownPackagesError
from ims.recipes.reading import RenderedRecipe
from ims.recipes.resolving import Query, answer
from ims.sandbox.call import call
from ims.sandbox.network import provide
from ims.settings import settings
from ims.steps.views import view_of_folder
from ims.workspace import Workspace

SECONDS = 900
"""How long the solver may take, with the download of the indexes."""
MAX_REASON = 300
"""Characters of the message of a solver."""


def predict_packages(workspace: Workspace, recipe: RenderedRecipe, inputs: BuildInputs) -> Sequence[Package]:
    """The packages that a build of a recipe would install, given its other inputs.

    Raises MissingPackagesError if no repository has a package, UnknownPackagesError if they cannot be predicted
    otherwise, UnavailableError if a repository does not answer.
    """
    request = recipe.request
    if request is None:
        raise UnknownPackagesError(recipe.unknown)
    with _cache_folder(request.sources, workspace) as folder:
        if (solution := solution_cache.load(folder, request, inputs)) is not None:
            return solution
        packages = ask_solver(request, folder / "indexes", recipe.network)
        if index_digests(recipe.description.repositories, settings().ca_certificate_path) == inputs.repositories:
            # If an index changed meanwhile, it is unknown which version of it the solver used.
            solution_cache.save(folder, request, inputs, packages)
        return packages


def ask_solver(
    request: PackageRequest, folder: Path, allowed: RecipeNetwork, seconds: float = SECONDS
) -> list[Package]:
    """The packages that would be installed into an empty root, according to repositories in a network.

    The sandbox sees no files but those in `folder`, in which it keeps the indexes of the repositories.
    Raises MissingPackagesError if no repository has a package, UnknownPackagesError if the solver fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    query = Query(request=request, folder=folder, certificates=[BUNDLE, settings().ca_certificate_path])
    try:
        with provide(allowed.policy()) as network:
            found = call(answer, query, view_of_folder(folder), network, seconds=seconds)
            if found.missing:
                raise MissingPackagesError([masked(name)[:MAX_REASON] for name in found.missing])
            if found.packages is None:
                raise UnknownPackagesError(masked(found.unknown)[:MAX_REASON])
    except UnknownPackagesError:
        raise
    except ImsError as error:  # the recipe's fault, for example an index that needs too much memory
        raise UnknownPackagesError(error.reason) from None
    return found.packages


@contextmanager
def _cache_folder(sources: object, workspace: Workspace) -> Iterator[Path]:
    """The shared folder for solutions and indexes of repositories, or a private one if another process uses it."""
    key = hashlib.sha256(repr(sources).encode()).hexdigest()
    shared = cache.folder(cache.INDEXES) / key
    try:
        shared.mkdir(parents=True, exist_ok=True)
    except OSError:  # pods share no cache
        yield workspace.solver
        return
    with cache.try_lock(shared.with_suffix(".lock")) as is_locked:
        yield shared if is_locked else workspace.solver
