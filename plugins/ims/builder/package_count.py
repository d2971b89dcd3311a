"""Logs how many packages a build has installed. The output of the package managers contains the numbers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

SECONDS = 2
"""The least time between two lines of the log. Scripts that print similar lines therefore cannot fill it."""
_MAX_LINE = 300
_NUMBERED = re.compile(  # zypper, dnf4 and dnf5
    r"\((\d{1,6})/(\d{1,6})\) Installing: "
    r"|Installing +: .* (\d{1,6})/(\d{1,6}) *$"
    r"|\[ *(\d{1,6})/(\d{1,6})\] Installing "
)
_APT_TOTAL = re.compile(r"\b(\d{1,6}) newly installed, \d+ to remove")
_APT_PACKAGE = re.compile(r"(^|: )Setting up \S+ \(")


class PackageCount:
    """Passes the lines of kiwi on to `parse`, and regularly logs how many packages are installed."""

    def __init__(self, parse: Callable[[str], tuple[int, str]], clock: Callable[[], float] = time.monotonic) -> None:
        self._parse, self._clock = parse, clock
        self._done = self._total = 0  # of apt, which does not number the packages
        self._next = clock()

    def __call__(self, line: str) -> tuple[int, str]:
        """Returns the result of `parse` for a line."""
        if len(line) <= _MAX_LINE and (count := self._read(line)) is not None:
            self._say(*count)
        return self._parse(line)

    def _read(self, line: str) -> tuple[int, int] | None:
        """The number of a package and of all packages, if a line has them."""
        if match := _NUMBERED.search(line):
            done, total = (int(number) for number in match.groups() if number is not None)
            return done, total
        if match := _APT_TOTAL.search(line):
            self._done, self._total = 0, int(match[1])
        elif _APT_PACKAGE.search(line) and self._done < self._total:
            self._done += 1
            return self._done, self._total
        return None

    def _say(self, done: int, total: int) -> None:
        if done <= total and self._clock() >= self._next:
            self._next = self._clock() + SECONDS
            log.info("packages: %d of %d", done, total)
