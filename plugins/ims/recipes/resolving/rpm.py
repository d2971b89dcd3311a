"""What a package manager of the rpm family would install: dnf's solver, which is zypper's too.

The two choose differently where several packages would do. So what it says is believed only of an image in which just
these packages are (see `ims.steps.provenance.confirm`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ims.recipes.provenance import Package
from ims.recipes.resolving.programs import run
from ims.recipes.wanted import Source, Wanted

PYTHON = "/usr/bin/python3"
"""The distribution's own, which has dnf's library."""
PROGRAM = Path(__file__).with_name("ask_dnf.py")


def resolve(wanted: Wanted, folder: Path, certificates: Path) -> list[Package]:
    """See `ims.recipes.resolving.resolve`."""
    question = {
        "folder": str(folder),
        "certificates": str(certificates),
        "packages": wanted.packages,
        "recommended": wanted.recommended,
        "repositories": [{**asdict(source), "url": _base_url(source)} for source in wanted.sources],
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [Package(**item) for item in json.loads(run([PYTHON, "-I", str(PROGRAM)], folder, json.dumps(question)))]


def _base_url(source: Source) -> str:
    return source.metadata_url.removesuffix("repodata/repomd.xml")
