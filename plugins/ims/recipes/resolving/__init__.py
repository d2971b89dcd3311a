"""Resolves package requests with the solvers of the package managers, without installing anything.

There is one module for each family of package managers, with a function `resolve(request, folder, certificates)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from ims.recipes.build_inputs import Package
from ims.recipes.description import APT
from ims.recipes.package_request import MissingPackagesError, PackageRequest, UnknownPackagesError
from ims.recipes.resolving import apt, rpm


def resolve(request: PackageRequest, folder: Path, certificates: Path) -> list[Package]:
    """The packages that would be installed into an empty root.

    `folder` stores the indexes of the repositories for the next call. Only one process at a time may use it.
    `certificates` is the bundle of trusted CA certificates.
    Raises MissingPackagesError if no repository has a requested package, and UnknownPackagesError if the solver fails.
    """
    if request.package_manager == APT:
        return apt.resolve(request, folder, certificates)
    return rpm.resolve(request, folder, certificates)


class Query(BaseModel):
    """A package request, the folder for its indexes, and the files with the CA certificates to trust."""

    request: PackageRequest
    folder: Path
    certificates: list[Path]


class Resolution(BaseModel):
    """The packages, or None and the reason that they are unknown or the names of those that no repository has."""

    packages: list[Package] | None = None
    unknown: str = ""
    missing: list[str] = []


def answer(query: Query) -> Resolution:
    """Resolve a request; in the sandbox."""
    bundle = _write_bundle(query.certificates, query.folder)
    try:
        return Resolution(packages=resolve(query.request, query.folder, bundle))
    except MissingPackagesError as error:
        return Resolution(missing=list(error.names))
    except UnknownPackagesError as error:
        return Resolution(unknown=error.reason)


def _write_bundle(certificates: Sequence[Path], folder: Path) -> Path:
    """Write certificates to one file."""
    bundle = folder / "certificates.pem"
    bundle.write_bytes(b"\n".join(path.read_bytes() for path in certificates))
    return bundle
