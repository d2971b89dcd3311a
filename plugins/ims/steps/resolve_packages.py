"""Before the build: which packages the repositories give for the recipe, and what else decides the image."""

from __future__ import annotations

import logging

from ims.errors import ImsError, UnavailableError
from ims.recipes.description import read_description
from ims.recipes.wanted import UnknownPackagesError
from ims.steps import provenance
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)


class Input(StepInput):
    """`boot_files` are the names that the job looks up in /boot."""

    arch: str
    boot_files: dict[str, str | None]


def run(step: Input) -> str | None:
    """Leaves `provenance.json`; returns the digest of the packages, None where they cannot be told.

    Nothing here is worth failing for: without it the next plan says that the image has to be built.
    """
    folder = step.workspace.recipe
    path = step.workspace.build_inputs
    path.unlink(missing_ok=True)
    try:
        found = provenance.gather(folder, read_description(folder), step.arch, step.boot_files)
    except ImsError as error:
        log.warning("the image will be without a provenance: %s", error)
        return None
    try:
        found = found.with_packages(provenance.packages(step.workspace, found))
        log.info("%d packages will be installed", len(found.packages or ()))
    except (UnknownPackagesError, UnavailableError) as error:
        log.info("which packages will be installed is not known: %s", error)
        found = found.without_packages(str(error))
    path.write_text(found.model_dump_json())
    return found.packages_digest


STEP = Step("resolve_packages", Input, run)
