"""Compares versions like rpm and dpkg do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ims.errors import InputError

if TYPE_CHECKING:  # slow to import
    from univers.versions import Version

MAX_LENGTH = 255
# The library is too lenient: it drops blanks, and reads an invalid version as an empty one.
_RPM = re.compile(r"([0-9]{1,10}:)?[A-Za-z0-9._+~^]+(-[A-Za-z0-9._+~^]+)?")
_DEB = re.compile(r"([0-9]{1,10}:)?[0-9][A-Za-z0-9.+~-]*")


def is_below(kind: str, version: str, limit: str) -> bool:
    """Whether `version` is below `limit` in the order of rpm or dpkg (`kind` is rpm or deb).

    An invalid `version` counts as below, so that it shows up in lists of what has to be updated.
    Raises InputError if `limit` is invalid.
    """
    parsed_limit = _parse(kind, limit)
    if parsed_limit is None:
        raise InputError(f"{limit!r} is not a version of {kind}", "Write it as [epoch:]version[-release]")
    parsed = _parse(kind, version)
    return parsed is None or bool(parsed < parsed_limit)


def check_version(text: str) -> None:
    """Raises InputError if `text` is a version of neither rpm nor dpkg."""
    if all(_parse(kind, text) is None for kind in ("rpm", "deb")):
        raise InputError(f"{text!r} is a version of neither rpm nor deb", "Write it as [epoch:]version[-release]")


def _parse(kind: str, text: str) -> Version | None:
    from univers.versions import DebianVersion, RpmVersion

    pattern, order = (_RPM, RpmVersion) if kind == "rpm" else (_DEB, DebianVersion)
    if len(text) > MAX_LENGTH or not pattern.fullmatch(text):
        return None
    try:
        return order(text)
    except ValueError:
        return None
