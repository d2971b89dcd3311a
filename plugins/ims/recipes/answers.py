"""What a solver said, kept for as long as nothing that it looks at changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ims.recipes.provenance import Package, Provenance
from ims.recipes.wanted import Wanted


class Answer(BaseModel):
    """The packages that the programs of `builder` took from repositories with these indexes."""

    builder: dict[str, str]
    repositories: dict[str, str]
    packages: tuple[Package, ...]


def recall(folder: Path, wanted: Wanted, now: Provenance) -> tuple[Package, ...] | None:
    """What was said when builder and repositories were as they are `now`; None if nothing was."""
    try:
        answer = Answer.model_validate_json(_path(folder, wanted).read_bytes())
    except (OSError, ValidationError):
        return None
    same = (answer.builder, answer.repositories) == (now.builder, now.repositories)
    return answer.packages if same else None


def keep(folder: Path, wanted: Wanted, now: Provenance, packages: Sequence[Package]) -> None:
    """Keep what was said of `now`, instead of what was said before."""
    answer = Answer(builder=now.builder, repositories=now.repositories, packages=tuple(packages))
    path = _path(folder, wanted)
    partial = path.with_suffix(".partial")
    partial.write_text(answer.model_dump_json())
    partial.replace(path)


def _path(folder: Path, wanted: Wanted) -> Path:
    text = repr((wanted.package_manager, wanted.sources, wanted.packages, sorted(wanted.removed), wanted.recommended))
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()}.answer"
