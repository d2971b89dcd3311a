"""Resolves package requests for the rpm family with the solver of dnf, which zypper uses, too.

dnf and zypper choose differently if several packages fulfill a requirement. A prediction is therefore used only if
exactly the predicted packages were installed, see `ims.builder.inputs.check_installed`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ims.recipes.build_inputs import Package
from ims.recipes.package_request import MissingPackagesError, PackageRequest, Source
from ims.recipes.resolving.programs import run

PYTHON = "/usr/bin/python3"
"""The Python of the distribution, which has the library of dnf."""
PROGRAM = Path(__file__).with_name("ask_dnf.py")


def resolve(request: PackageRequest, folder: Path, certificates: Path) -> list[Package]:
    """See `ims.recipes.resolving.resolve`."""
    query = {
        "folder": str(folder),
        "certificates": str(certificates),
        "packages": request.packages,
        "recommended": request.recommended,
        "repositories": [{**asdict(source), "url": _base_url(source)} for source in request.sources],
    }
    folder.mkdir(parents=True, exist_ok=True)
    answer = json.loads(run([PYTHON, "-I", str(PROGRAM)], folder, json.dumps(query)))
    if isinstance(answer, dict):
        raise MissingPackagesError(answer["missing"])
    return [Package.model_validate(item) for item in answer]


def _base_url(source: Source) -> str:
    return source.metadata_url.removesuffix("repodata/repomd.xml")
