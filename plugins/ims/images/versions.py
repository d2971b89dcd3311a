"""The order of versions, as rpm and dpkg have it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ims.errors import InputError

if TYPE_CHECKING:  # it takes long to load
    from univers.versions import Version

MAX_LENGTH = 255
# The library reads more than there is: it drops blanks, and takes what is no version for an empty one.
_RPM = re.compile(r"([0-9]{1,10}:)?[A-Za-z0-9._+~^]+(-[A-Za-z0-9._+~^]+)?")
_DEB = re.compile(r"([0-9]{1,10}:)?[0-9][A-Za-z0-9.+~-]*")


def is_below(kind: str, version: str, limit: str) -> bool:
    """Whether a version is below another, in the order of rpm or dpkg (`kind` is rpm or deb).

    One that cannot be read counts as below: who asks what has to be updated should see it.
    Raises InputError: `limit` cannot be read.
    """
    wanted = _read(kind, limit)
    if wanted is None:
        raise InputError(f"{limit!r} is not a version of {kind}", "Write it as [epoch:]version[-release]")
    found = _read(kind, version)
    return found is None or bool(found < wanted)


def check_version(text: str) -> None:
    """Raises InputError: neither rpm nor dpkg can read it."""
    if all(_read(kind, text) is None for kind in ("rpm", "deb")):
        raise InputError(f"{text!r} is a version of neither rpm nor deb", "Write it as [epoch:]version[-release]")


def _read(kind: str, text: str) -> Version | None:
    from univers.versions import DebianVersion, RpmVersion

    pattern, order = (_RPM, RpmVersion) if kind == "rpm" else (_DEB, DebianVersion)
    if len(text) > MAX_LENGTH or not pattern.fullmatch(text):
        return None
    try:
        return order(text)
    except ValueError:
        return None
