"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """What a check found. `next_step` is empty if there is nothing to do."""

    status: Status
    value: str
    next_step: str = ""


def ok(value: str) -> Finding:
    """Nothing is to be done."""
    return Finding("ok", value)


def warning(value: str, next_step: str) -> Finding:
    """The service works, but less safely or not as well."""
    return Finding("warning", value, next_step)


def missing(value: str, next_step: str) -> Finding:
    """Jobs cannot work."""
    return Finding("missing", value, next_step)
