"""The order of versions, compared with rpm and dpkg themselves."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from ims.errors import InputError
from ims.images.versions import MAX_LENGTH, check_version, is_below

RPM = [
    *("1.0~rc1-1", "1.0-1", "1.0^git1-1", "1.0.1-1", "1.0.1-1.el9", "1.0.1-2", "1.0.1-10", "1.0a-1", "1.10-1"),
    *("2.0~beta~1-1", "2.0-1", "1:0.1-1", "10:0-1", "0:1.0-1", "6.4.0-150600.21", "6.4.0-150600.21.3", "1_0-1"),
]
DEB = [
    *("1.0~rc1-1", "1.0~~-1", "1.0-1", "1.0-1+deb12u1", "1.0-1~bpo12+1", "1.0+dfsg-1", "1.0.1-1", "1.0a-1", "1.10-1"),
    *("5.2.15-2+b7", "1:0.1-1", "10:0-1", "0:1.0-1", "3.0.15", "3.0.15-0", "3.0.9-1", "12~rc1-14"),
]


def rpm_says(first: str, second: str) -> bool:
    """Whether rpm considers the first version older. rpm compares the epoch first."""
    keys = []
    for text in (first, second):
        epoch, _, rest = text.rpartition(":")
        version, _, release = rest.partition("-")
        keys.append((epoch or "0", version, release))
    for left, right in zip(*keys, strict=True):
        done = subprocess.run(
            ["rpm", "--eval", f'%{{lua:print(rpm.vercmp("{left}", "{right}"))}}'],
            capture_output=True,
            text=True,
            check=True,
        )
        if (order := int(done.stdout)) != 0:
            return order < 0
    return False


def dpkg_says(first: str, second: str) -> bool:
    """Whether dpkg considers the first version older."""
    return subprocess.run(["dpkg", "--compare-versions", first, "lt", second], check=False).returncode == 0


@pytest.mark.system
def test_order_of_rpm() -> None:
    """Epoch, tilde, caret and release."""
    for first, second in itertools.permutations(RPM, 2):
        assert is_below("rpm", first, second) == rpm_says(first, second), (first, second)


@pytest.mark.system
def test_order_of_dpkg() -> None:
    """Epoch, tilde, plus and revision."""
    for first, second in itertools.permutations(DEB, 2):
        assert is_below("deb", first, second) == dpkg_says(first, second), (first, second)


@pytest.mark.parametrize("text", ["", "-", "1 2", "a:1", "1:", "é", "1" * (MAX_LENGTH + 1), "1-1-1", "99999999999:1"])
def test_invalid_version(text: str) -> None:
    """It is rejected as a limit. An image's version that is invalid counts as below."""
    with pytest.raises(InputError, match="not a version of rpm"):
        is_below("rpm", "1", text)
    assert is_below("rpm", text, "1")


def test_version_of_either() -> None:
    """A version that only one of the two can read is valid."""
    check_version("1.0^git1")
    check_version("1-1-1")
    with pytest.raises(InputError, match="neither rpm nor deb"):
        check_version("no version")
