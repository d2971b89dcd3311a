"""How many packages are installed, in the log of a build."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count

import pytest

from ims.builder.package_count import PackageCount
from ims.recipes.kiwi_log import LineParser

PREFIX = "[ DEBUG   ]: 12:00:00 | bootstrap: "
APT = [
    "0 upgraded, 3 newly installed, 0 to remove and 0 not upgraded.",
    "Unpacking a (1.2) ...",
    "Setting up a (1.2) ...",
]
LINES = {
    "zypper": (["(2/167) Installing: bash-5.1-1.noarch [..done]"], ["2 of 167"]),
    "dnf4": (["  Installing       : bash-5.1-2.el9.x86_64                     2/167 "], ["2 of 167"]),
    "dnf5": (["[  2/167] Installing bash-0:5.1-2.el9 100% |   5.0 MiB/s |   8.4 MiB |  00m02s"], ["2 of 167"]),
    "apt": ([*APT, "Setting up b:amd64 (1) ..."], ["1 of 3", "2 of 3"]),
    "apt, two times": ([*APT, *APT], ["1 of 3", "1 of 3"]),
    "apt, more than it said": ([*APT, *APT[-1:] * 4], ["1 of 3", "2 of 3", "3 of 3"]),
    "apt, without a number": (APT[1:], []),
    "not a package": (["(2/167) Checking", "Setting up the network", "7/8 done"], []),
    "impossible": (["(9/3) Installing: x", "(1/99999999999) Installing: x"], []),
    "long": (["Installing : " * 5000 + "2/167"], []),
}


def seen(lines: list[str], clock: Iterator[int], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Parse lines; returns what is logged. They are parsed as without the count."""
    caplog.set_level(logging.INFO)
    parse, plain = PackageCount(LineParser(), lambda: next(clock)), LineParser()
    for line in lines:
        assert parse(PREFIX + line) == plain(PREFIX + line)
    return [record.getMessage().removeprefix("packages: ") for record in caplog.records]


@pytest.mark.parametrize(("lines", "expected"), LINES.values(), ids=LINES)
def test_count(lines: list[str], expected: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Each package manager says it in another way."""
    assert seen(lines, count(step=2), caplog) == expected


def test_rate(caplog: pytest.LogCaptureFixture) -> None:
    """Within two seconds there is one line."""
    lines = [f"({number}/200) Installing: x" for number in range(200)]
    assert len(seen(lines, iter([0] * 300), caplog)) == 1
