"""Caches the solutions of a package solver. A solution is valid as long as its input does not change."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ims.files import write_atomically
from ims.recipes.build_inputs import BuildInputs, Package
from ims.recipes.package_request import PackageRequest


class Solution(BaseModel):
    """The packages that the programs `builder` chose from repositories with these index digests."""

    builder: dict[str, str]
    repositories: dict[str, str]
    packages: tuple[Package, ...]


def load(folder: Path, request: PackageRequest, inputs: BuildInputs) -> tuple[Package, ...] | None:
    """The cached packages for a request, or None if builder or repositories changed since they were cached."""
    try:
        solution = Solution.model_validate_json(_path(folder, request).read_bytes())
    except (OSError, ValidationError):
        return None
    is_valid = (solution.builder, solution.repositories) == (inputs.builder, inputs.repositories)
    return solution.packages if is_valid else None


def save(folder: Path, request: PackageRequest, inputs: BuildInputs, packages: Sequence[Package]) -> None:
    """Cache the packages for a request, in place of those cached before."""
    solution = Solution(builder=inputs.builder, repositories=inputs.repositories, packages=tuple(packages))
    write_atomically(_path(folder, request), solution.model_dump_json())


def _path(folder: Path, request: PackageRequest) -> Path:
    fields = (request.package_manager, request.sources, request.packages, sorted(request.removed), request.recommended)
    text = repr(fields)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()}.answer"
