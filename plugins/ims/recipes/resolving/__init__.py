"""Which packages would be installed: the package managers' own solvers, asked without installing anything.

One module a family of package managers; each has `resolve(wanted, folder, certificates)`.
"""

from __future__ import annotations

from pathlib import Path

from ims.recipes.description import APT
from ims.recipes.provenance import Package
from ims.recipes.resolving import apt, rpm
from ims.recipes.wanted import UnknownPackagesError, Wanted

_RPM = ("zypper", "dnf4", "dnf5", "microdnf")


def resolve(wanted: Wanted, folder: Path, certificates: Path) -> list[Package]:
    """The packages that would be installed into an empty root.

    `folder` keeps the repositories' indexes for the next time; only one process may use it. `certificates` is a
    bundle to verify servers by. Raises UnknownPackagesError.
    """
    if wanted.package_manager == APT:
        return apt.resolve(wanted, folder, certificates)
    if wanted.package_manager in _RPM:
        return rpm.resolve(wanted, folder, certificates)
    raise UnknownPackagesError(f"the packages of {wanted.package_manager} cannot be resolved here")
