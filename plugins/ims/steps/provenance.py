"""What would decide an image of a recipe that lies in a folder: for the build that is to come, and for a plan."""

from __future__ import annotations

import hashlib
import logging
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ims.errors import ConfigurationError
from ims.images.packages import installed, label
from ims.recipes import answers
from ims.recipes.description import Description, read_description
from ims.recipes.metadata import index_digests
from ims.recipes.provenance import Package, Provenance, file_digest, own_versions, recipe_digests
from ims.recipes.resolving import resolve
from ims.recipes.wanted import wanted_packages
from ims.settings import settings
from ims.steps.build_ca_package import NAME as CA_PACKAGE
from ims.steps.locks import taken
from ims.workspace import Workspace

log = logging.getLogger(__name__)

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# Debian's packages with the programs that make an image.
_TOOLS = {"apt": ("apt", "dpkg"), "zypper": ("zypper", "rpm"), "": ("dnf", "rpm")}


def gather(folder: Path, description: Description, arch: str, boot_files: Mapping[str, str | None]) -> Provenance:
    """All but the packages, which take longer to tell. Raises UnavailableError: a repository does not answer."""
    own = settings()
    return Provenance(
        **recipe_digests(folder),
        arch=arch,
        builder=builder(description.package_manager),
        ca_certificate=file_digest(own.ca_certificate_path),
        boot_files=dict(boot_files),
        repositories=index_digests(description.repositories, own.ca_certificate_path),
    )


def builder(package_manager: str) -> dict[str, str]:
    """The versions of the programs that make an image, and the settings that change it."""
    tools = (*_TOOLS.get(package_manager, _TOOLS[""]), "squashfs-tools")
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n", *tools]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigurationError(f"the builder's programs are not all there: {done.stderr.strip()}", "make setup")
    versions = dict(line.split(" ") for line in done.stdout.splitlines())
    return {**own_versions(), **versions, "squashfs_level": str(settings().squashfs_level)}


def confirm(workspace: Workspace, root: Path, *, finished: bool = False) -> bool:
    """Believe the packages in `provenance.json` only if an image root holds just these, and the site's CA.

    In a `finished` root some may be gone: scripts remove packages, as they will the next time. Otherwise scripts
    install some, or another solver chose: what was told says nothing of the next build. Returns whether it does.
    """
    found = told(workspace)
    if found is None or found.packages is None:
        return False
    others = other_packages(found, root, finished)
    if others:
        why = f"its image holds others than were to be installed: {', '.join(others[:3])}"
        log.info("which packages the next build will install cannot be told from this one: %s", why)
        workspace.build_inputs.write_text(found.without_packages(why).model_dump_json())
    return not others


def told(workspace: Workspace) -> Provenance | None:
    """What `resolve_packages` left; None if it left nothing."""
    path = workspace.build_inputs
    return Provenance.read(path.read_bytes()) if path.exists() else None


def other_packages(found: Provenance, root: Path, finished: bool) -> list[str]:
    """What an image root holds that was not told and, unless it is `finished`, what it does not hold although it was.

    The package of the site's CA is none of the repositories'.
    """
    kind = "deb" if "dpkg" in found.builder else "rpm"
    told = Counter(f"{label(kind, package.name, package.arch)} {package.version}" for package in found.packages or ())
    there = Counter(
        f"{name} {version}"
        for name, versions in installed(root).items()
        for version in versions.split(", ")
        if not name.startswith(CA_PACKAGE)
    )
    return sorted(there - told) if finished else sorted([*(there - told), *(told - there)])


def packages(workspace: Workspace, now: Provenance) -> Sequence[Package]:
    """The packages that would be installed `now`, which `gather` told of the same recipe.

    Raises UnknownPackagesError: that cannot be told; UnavailableError: a repository does not answer.
    """
    wanted = wanted_packages(workspace.recipe, now.arch)
    workspace.resolving.mkdir(parents=True, exist_ok=True)
    with _index_folder(wanted.sources, workspace) as indexes:
        if (known := answers.recall(indexes, wanted, now)) is not None:
            return known
        resolved = resolve(wanted, indexes, _certificates(workspace))
        repositories = read_description(workspace.recipe).repositories
        if index_digests(repositories, settings().ca_certificate_path) == now.repositories:
            # Otherwise one was published meanwhile, and it is not known which of the two the solver saw.
            answers.keep(indexes, wanted, now, resolved)
        return resolved


@contextmanager
def _index_folder(sources: object, workspace: Workspace) -> Iterator[Path]:
    """Where the indexes of these repositories are kept; a folder in `scratch` while somebody else uses that."""
    key = hashlib.sha256(repr(sources).encode()).hexdigest()
    shared = settings().home / "cache" / "indexes" / key
    try:
        shared.mkdir(parents=True, exist_ok=True)
    except OSError:  # a pod has no place that it shares with others
        yield workspace.solver_indexes
        return
    with taken(shared.with_suffix(".lock")) as ours:
        yield shared if ours else workspace.solver_indexes


def _certificates(workspace: Workspace) -> Path:
    """The system's certificates and the site's in one file."""
    bundle = workspace.solver_certificates
    bundle.write_bytes(BUNDLE.read_bytes() + b"\n" + settings().ca_certificate_path.read_bytes())
    return bundle
