"""Why a build failed, from the logs of real builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ims.errors import PERMANENT_EXIT_CODES, ImsError
from ims.recipes.kiwi_log import build_error, clean, schema_reason

LOGS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("kiwi_logs.yaml").read_text())
SCHEMA = """\
[ DEBUG   ]: 12:00:00 | EXEC: Failed with stderr: [warning] /usr/bin/jing: Unable to locate xml-apis in /usr/share/java
, stdout: /tmp/kiwi_xslt-9fyy8ij9:1:62: error: attribute "bogus" not allowed here; expected attribute "id" or "name"
[ INFO    ]: 12:00:00 | RelaxNG validation failed. See jing report:
[ ERROR   ]: 12:00:00 | KiwiDescriptionInvalid: Failed to validate schema and/or schematron rules.
"""
NOT_XML = """\
[ INFO    ]: 12:00:00 | Support for XML markup available
[ ERROR   ]: 12:00:00 | KiwiConfigFileFormatNotSupported: Configuration file could not be parsed.
"""


def error_of(log: str) -> ImsError:
    """The error of a build with this log, whose lines are cleaned like in the build step."""
    return build_error([text for line in log.splitlines() for text in clean(line)], 1)


@pytest.mark.parametrize("case", LOGS.values(), ids=LOGS)
def test_reason_of_a_failed_build(case: dict[str, Any]) -> None:
    """One sentence names what is missing, and the error class says whether another try can help."""
    error = error_of(case["log"])
    assert error.reason == f"kiwi-ng could not build the image root: {case['reason']}"
    assert (error.exit_code in PERMANENT_EXIT_CODES) == case["permanent"]


def test_recipe_is_to_blame_for_itself_alone() -> None:
    """Repositories that it could read before the build are not its fault, nor is the disk."""
    blamed = [name for name, case in LOGS.items() if not error_of(case["log"]).is_environmental]
    words = ("unknown package", "unmet dependency", "config.sh fails")
    assert blamed == [name for name in LOGS if name.endswith(words)]
    assert error_of("tar: ./etc/group: Cannot write: No space left on device").is_environmental


def test_unknown_reason_is_worth_another_try() -> None:
    """The error has only the exit code and refers to the log."""
    error = build_error(["[ INFO    ]: 12:00:00 | Installing"], 137)
    assert str(error) == "kiwi-ng could not build the image root: it ended with exit code 137. See the log above"
    assert error.exit_code not in PERMANENT_EXIT_CODES


def test_error_has_precedence_over_earlier_lines() -> None:
    """A package manager tries several mirrors. A failure that it recovered from is not the reason."""
    got_over = "[ DEBUG   ]: 12:00:00 | bootstrap: [MIRROR] a.rpm: Status code: 503 for http://nexus.example/a.rpm\n"
    assert "no repository has a package" in error_of(got_over + LOGS["dnf, unknown package"]["log"]).reason


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (SCHEMA, 'attribute "bogus" not allowed here; expected attribute "id" or "name"'),
        (NOT_XML, "KiwiConfigFileFormatNotSupported: Configuration file could not be parsed."),
        ("  something else\n", "something else"),
        ("", "kiwi-ng gave no reason"),
    ],
)
def test_reason_why_a_description_is_refused(output: str, reason: str) -> None:
    """The message of the schema, if there is one."""
    assert schema_reason(output) == reason


@pytest.mark.parametrize(
    ("line", "messages"),
    [
        ("plain\n", ["plain"]),
        ("\n", []),
        ("one\rtwo\r\n", ["one", "two"]),
        (
            "[ INFO    ]: Processing: [####                ] 50%[ DEBUG   ]: 12:00:00 | Installing",
            ["[ DEBUG   ]: 12:00:00 | Installing"],
        ),
        ("[ INFO    ]: Processing: [########################################] 100%", []),
        (
            "EXEC: [zypper addrepo https://user:secret@nexus.example/repo flow-test]",
            ["EXEC: [zypper addrepo https://nexus.example/repo flow-test]"],
        ),
        (
            "from http://a:b@one.example/x and http://c@two.example/y",
            ["from http://one.example/x and http://two.example/y"],
        ),
        ("mail to root@localhost", ["mail to root@localhost"]),
    ],
)
def test_clean_line(line: str, messages: list[str]) -> None:
    """No progress bars, no empty lines, no passwords."""
    assert list(clean(line)) == messages
