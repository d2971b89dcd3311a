"""Predicts what a build will use: the packages that the repositories offer, and all other build inputs."""

from __future__ import annotations

import logging

from ims.builder import inputs
from ims.errors import ImsError, InputError, UnavailableError
from ims.recipes.package_request import MissingPackagesError, UnknownPackagesError
from ims.recipes.reading import RenderedRecipe
from ims.steps.package_prediction import predict_packages
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)


class Input(StepInput):
    """`boot_files` are the names of the files that the job looks up in /boot."""

    arch: str
    boot_files: dict[str, str | None]


def run(step: Input) -> str | None:
    """Writes `provenance.json`; returns the digest of the packages, or None if they cannot be predicted.

    If the build inputs are unknown, the next plan decides to build the image.
    Raises InputError if no repository has a package of the recipe: the build would fail.
    """
    path = step.workspace.build_inputs
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        recipe = RenderedRecipe.load(step.workspace.recipe_summary)
        found = inputs.collect(recipe, step.arch, step.boot_files)
    except ImsError as error:
        log.warning("the build inputs of the image remain unknown: %s", error)
        return None
    try:
        found = found.with_packages(predict_packages(step.workspace, recipe, found))
        log.info("%d packages will be installed", len(found.packages or ()))
    except MissingPackagesError as error:
        if not recipe.digests.bootstrap_script:  # which can add repositories
            raise InputError(error.reason, "Correct the name, or add the repository that has the package") from None
        found = found.without_packages(str(error))
    except (UnknownPackagesError, UnavailableError) as error:
        log.info("the packages cannot be predicted: %s", error)
        found = found.without_packages(str(error))
    path.write_text(found.model_dump_json())
    return found.packages_digest


STEP = Step("resolve_packages", Input, run, privileged=True, parallel=True)
