"""Reads the output of kiwi-ng and of the package managers that it runs: clean lines, levels, and why a build failed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ims.errors import ConfigurationError, ImsError, PermanentError, UnavailableError

# kiwi draws its progress on the same line as the next message.
_PROGRESS = re.compile(r"\[ \w+\s*\]: Processing: \[[# ]*\] \d+%")
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_ERROR_MARK = "[ ERROR   ]"
_PREFIX = re.compile(r"\[ (?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) *\]: \d\d:\d\d:\d\d \| ")


@dataclass(frozen=True)
class Cause:
    """A line that says why a build failed, and the error that it stands for.

    The recipe is not to blame for repositories that it could read before the build, nor for the disk.
    """

    pattern: str
    sentence: str
    error: type[ImsError] = PermanentError

    def read(self, text: str) -> ImsError | None:
        """The error if `text` contains such a line."""
        match = re.search(self.pattern, text, re.MULTILINE)
        if match is None:
            return None
        return self.error(
            f"kiwi-ng could not build the image root: {self.sentence.format(**match.groupdict()).strip()}"
        )


# Errors of the site, for which the recipe is not to blame. The second kind may be gone when the build is tried again.
_SITE, _LATER = ConfigurationError, UnavailableError
# In order of precedence: if a repository cannot be read, its packages are missing, too.
CAUSES = (
    # zypper, dnf and apt on their repositories
    Cause(r"SSL certificate problem: (?P<why>.+)", "a repository's certificate is not trusted: {why}", _SITE),
    Cause(r"Curl error \(60\): .*? for (?P<url>\S+)", "the certificate of {url} is not trusted", _SITE),
    Cause(r"error setting certificate file: (?P<file>\S+)", "the image has no trusted certificates ({file})"),
    Cause(
        r"Login failed\. \((?P<url>[^)]+)\): .*error: (?P<code>\d+)",
        "{url} asks for a login ({code})",
        _SITE,
    ),
    Cause(r"Permission to access '(?P<url>[^']+)' denied", "{url} refuses access (403)", _SITE),
    Cause(
        r"Location '(?P<url>[^']+)' is temporarily unaccessible",
        "{url} is not available for now (503)",
        _LATER,
    ),
    Cause(r"Status code: (?P<code>5\d\d) for (?P<url>\S+)", "{url} answered {code}", _LATER),
    # The index lists a package that does not exist: the repository is being updated.
    Cause(r"Status code: (?P<code>404) for (?P<url>\S+\.rpm)", "{url} answered {code}", _LATER),
    Cause(r"Status code: (?P<code>\d{3}) for (?P<url>\S+)", "{url} answered {code}", _SITE),
    Cause(
        r"Error message: (?P<why>(Failed to connect|Could not resolve|Connection|Operation timed out|Timeout).+)",
        "{why}",
        _LATER,
    ),
    Cause(r"Curl error \((6|7|28|35|52|56)\): (?P<why>.+?) for (?P<url>\S+)", "{url}: {why}", _LATER),
    Cause(r"Failed to fetch (?P<url>\S+)\s+Could not connect to (?P<why>.+)", "no connection to {why}", _LATER),
    Cause(r"Failed to fetch (?P<url>\S+)\s+(?P<code>5\d\d)\s", "{url} answered {code}", _LATER),
    Cause(r"Failed to fetch (?P<url>\S+)\s+(?P<code>\d{3})\s", "{url} answered {code}", _SITE),
    Cause(r"File '(?P<file>[^']+)' not found on medium '(?P<url>[^']+)'", "{url} does not have {file}", _LATER),
    Cause(
        r"\[(?P<alias>[^|\]]+)\|(?P<url>[^\]]+)\] Valid metadata not found",
        "{url} (alias {alias}) is not a package repository",
        _SITE,
    ),
    # zypper, dnf4, dnf5, microdnf and apt on packages
    Cause(r"No provider of '(?P<name>[^']+)' found", "no repository has a package {name}"),
    Cause(r"Unable to find a match: (?P<name>.+)", "no repository has a package {name}"),
    Cause(r"No match for argument: (?P<name>\S+)", "no repository has a package {name}"),
    Cause(r"No package matches '(?P<name>[^']+)'", "no repository has a package {name}"),
    Cause(r"Package '(?P<name>[^']+)' has no installation candidate", "no repository has a package {name}"),
    Cause(
        r"nothing provides '?(?P<need>[^'\n]+?)'? needed by (the to be installed |to be installed )?(?P<name>\S+)",
        "{name} needs {need}, which no repository has",
    ),
    Cause(r"(?P<name>\S+) : Depends: (?P<need>.+?) but it is not", "{name} needs {need}, which cannot be installed"),
    # everything else
    Cause(
        r"No space left on device",
        "the disk of the workspace is full: make room, or set build_env_size",
        _SITE,
    ),
    Cause(r"KiwiScriptFailed: (?P<script>\S+) failed with: (?P<why>.*)", "{script} failed: {why}"),
)
# These occur next to better reasons, or say little: they count only if nothing else is found.
LAST_CAUSES = (
    Cause(r"^\s+(?P<name>\S+): Cannot download, all mirrors", "{name} cannot be downloaded", _LATER),
    Cause(
        r"Failed to download metadata for repo '(?P<alias>[^']+)'",
        "repository {alias} cannot be read",
        _LATER,
    ),
    Cause(r"Unable to locate package (?P<name>\S+)", "no repository has a package {name}"),
    Cause(r"(?P<why>Kiwi\w+: .+)", "{why}"),
)
SCHEMA_CAUSES = (
    Cause(r"\.xml:\d+:\d+: error: (?P<why>.+)", "{why}"),
    Cause(r"kiwi_xslt-\S+?:\d+:\d+: error: (?P<why>.+)", "{why}"),
    Cause(r"Schematron validation failed:\s+.*?--> (?P<why>.+)", "{why}"),
    *LAST_CAUSES[-1:],
)


def clean(line: str) -> Iterator[str]:
    """The messages in a line of output, without progress bars and passwords."""
    for part in re.split(r"[\r\n]+", _PROGRESS.sub("", line)):
        if text := _PASSWORD.sub("", part).rstrip():
            yield text


class LineParser:
    """Splits the lines of kiwi's output into level and text. A line without a level continues the message before it."""

    def __init__(self) -> None:
        self._level = logging.INFO

    def __call__(self, line: str) -> tuple[int, str]:
        """The level and the text of the next line."""
        if (match := _PREFIX.match(line)) is None:
            return self._level, line
        self._level = logging.getLevelNamesMapping()[match["level"]]
        return self._level, line[match.end() :]


def build_error(lines: Iterable[str], code: int) -> ImsError:
    """The error of a build that ended with exit code `code`, from the lines of its log."""
    log = "\n".join(lines)
    last = log[max(0, log.rfind(_ERROR_MARK)) :]
    for causes, text in ((CAUSES, last), (CAUSES, log), (LAST_CAUSES, last)):
        for cause in causes:
            if error := cause.read(text):
                return error
    return ImsError(f"kiwi-ng could not build the image root: it ended with exit code {code}", "See the log above")


def schema_reason(output: str) -> str:
    """Why kiwi rejects a description, from its output."""
    for cause in SCHEMA_CAUSES:
        if match := re.search(cause.pattern, output):
            return cause.sentence.format(**match.groupdict()).strip()
    return output.strip()[-500:] or "kiwi-ng gave no reason"
