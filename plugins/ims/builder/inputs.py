"""Collects the build inputs of a recipe: predicts them before a build, and checks the prediction after it."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ims.builder import programs
from ims.builder.network import network_use
from ims.files import file_digest
from ims.images.packages import installed_packages, label
from ims.images.root import UnreadableError
from ims.images.site_ca import PACKAGE as CA_PACKAGE
from ims.recipes.build_inputs import BuildInputs
from ims.recipes.description import Repository
from ims.recipes.reading import RenderedRecipe
from ims.settings import settings
from ims.workspace import Workspace

log = logging.getLogger(__name__)


Indexes = Callable[[tuple[Repository, ...]], dict[str, str]]
"""Returns the digest of the index of each repository, as `ims.recipes.metadata.index_digests` does."""


def read_indexes(repositories: tuple[Repository, ...]) -> dict[str, str]:
    """Read the indexes of repositories now. Raises UnavailableError if one does not answer."""
    from ims.recipes.metadata import index_digests  # slow to import

    return index_digests(repositories, settings().ca_certificate_path)


def collect(
    recipe: RenderedRecipe, arch: str, boot_files: Mapping[str, str | None], indexes: Indexes = read_indexes
) -> BuildInputs:
    """The build inputs of a recipe without its packages, which take longer: see `ims.steps.package_prediction`.

    Raises UnavailableError if a repository does not answer.
    """
    ca_certificate = settings().ca_certificate_path
    return BuildInputs(
        **recipe.digests.model_dump(),
        arch=arch,
        builder=programs.versions(recipe.description.package_manager),
        ca_certificate=certificate_digest(ca_certificate, settings().further_ca_files),
        boot_files=dict(boot_files),
        repositories=indexes(tuple(recipe.description.repositories)),
        opaque=recipe.description.opaque,
    )


def certificate_digest(certificate: Path, places: Sequence[str]) -> str:
    """A digest of the certificate and of the further places that it has in images."""
    digest = file_digest(certificate)
    return hashlib.sha256("\0".join((digest, *places)).encode()).hexdigest() if places else digest


def check_installed(workspace: Workspace) -> str | None:
    """Returns why the packages in the new package root are not those that were predicted, or None if they are.

    They differ if scripts install packages, or if the package manager decides differently than the solver. Then the
    prediction says nothing about the next build either.
    """
    inputs = _predicted(workspace)
    if inputs is None or inputs.packages is None:
        return "no packages were predicted"
    try:
        predicted, found = _count_predicted(inputs), _count_installed(workspace.image_root)
    except UnreadableError as error:
        return _explain_unknown(error)
    mismatch = sorted([*(found - predicted), *(predicted - found)])
    return _explain(mismatch) if mismatch else None


def final_inputs(workspace: Workspace) -> BuildInputs | None:
    """The build inputs of the finished image root. Returns None if nothing was predicted.

    They name the packages only if the prediction was right. In a finished image root, packages may be missing: scripts
    remove packages and will do so in the next build.
    """
    inputs = _predicted(workspace)
    if inputs is None:
        return None
    inputs = inputs.model_copy(update=network_use(workspace).model_dump())
    if inputs.packages is None:
        return inputs
    if workspace.package_mismatch.exists():
        return inputs.without_packages(workspace.package_mismatch.read_text())
    try:
        unexpected = sorted(_count_installed(workspace.image_root) - _count_predicted(inputs))
    except UnreadableError as error:
        return inputs.without_packages(_explain_unknown(error))
    return inputs.without_packages(_explain(unexpected)) if unexpected else inputs


def write_final_inputs(workspace: Workspace) -> None:
    """Write the build inputs of an image that was built to the artifacts."""
    if (final := final_inputs(workspace)) is not None:
        (workspace.artifacts / workspace.build_inputs.name).write_text(final.model_dump_json())


def predicted_checksums(workspace: Workspace) -> frozenset[str]:
    """The checksums of the packages that the build will install; empty if they cannot be predicted."""
    inputs = _predicted(workspace)
    packages = () if inputs is None else inputs.packages or ()
    return frozenset(package.checksum for package in packages)


def _predicted(workspace: Workspace) -> BuildInputs | None:
    path = workspace.build_inputs
    return BuildInputs.read(path.read_bytes()) if path.exists() else None


def _explain(mismatch: Sequence[str]) -> str:
    return _log(f"the image contains other packages than predicted: {', '.join(mismatch[:3])}")


def _explain_unknown(error: UnreadableError) -> str:
    return _log(f"it is unknown which packages were installed: {error.reason}")


def _log(reason: str) -> str:
    log.info("the packages of the next build cannot be predicted: %s", reason)
    return reason


def _count_predicted(inputs: BuildInputs) -> Counter[str]:
    kind = "deb" if "dpkg" in inputs.builder else "rpm"
    packages = inputs.packages or ()
    return Counter(f"{label(kind, package.name, package.arch)} {package.version}" for package in packages)


def _count_installed(root: Path) -> Counter[str]:
    """The packages of an image root, except the package of the site's CA, which no repository has.

    Raises UnreadableError if they are unknown.
    """
    return Counter(
        f"{name} {version}"
        for name, versions in installed_packages(root).items()
        for version in versions.split(", ")
        if not name.startswith(CA_PACKAGE)
    )
