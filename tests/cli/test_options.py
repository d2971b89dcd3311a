"""Options: what they parse to, and groups of options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ims.cli.option_groups import LinkOptions, with_groups
from ims.cli.options import assignments, comma_separated, dictionary, given, truth
from ims.errors import InputError


def test_given() -> None:
    """Options that were not given are left out. False and empty values are values."""
    assert given(a=None, b=False, c="", d=0, e=[]) == {"b": False, "c": "", "d": 0, "e": []}


def test_truth() -> None:
    """An option that was not given stays unknown."""
    assert [truth(value) for value in ("True", "False", None)] == [True, False, None]


@pytest.mark.parametrize(
    ("keys", "values", "found"),
    [
        (None, None, None),
        ("", None, []),
        ("A", "1", [("A", "1")]),
        ("A,B", "1,", [("A", "1"), ("B", "")]),
        ("A", "", [("A", "")]),
        ("A", None, [("A", "")]),
    ],
)
def test_comma_separated(keys: str | None, values: str | None, found: list[tuple[str, str]] | None) -> None:
    """The lists of keys and values have the format of `cray`."""
    expected = None if found is None else [{"key": key, "value": value} for key, value in found]
    assert comma_separated(keys, values) == expected


@pytest.mark.parametrize(("keys", "values"), [("A,B", "1"), ("A", "1,2"), (None, "1"), ("", "1")])
def test_comma_separated_lists_must_match(keys: str | None, values: str) -> None:
    """Each key needs a value."""
    with pytest.raises(InputError, match="Give one value for each key"):
        comma_separated(keys, values)


def test_assignments() -> None:
    """A value may be empty and may contain `=` and commas. The last value of a key wins."""
    assert assignments(["A=1=2,3", "B=", "A=4"]) == {"A": "4", "B": ""}
    assert dictionary({"A": "4", "B": ""}) == [{"key": "A", "value": "4"}, {"key": "B", "value": ""}]


@pytest.mark.parametrize("text", ["A", "=1", ""])
def test_invalid_assignment(text: str) -> None:
    """The error shows the format."""
    with pytest.raises(InputError, match="Write it as KEY=VALUE"):
        assignments([text])


def test_link() -> None:
    """The type is s3 by default. Without any option there is no link."""
    assert LinkOptions().link() is None
    assert LinkOptions(link_path="s3://a/b").link() == {"type": "s3", "path": "s3://a/b"}
    assert LinkOptions("s3", "s3://a/b", "x").link() == {"type": "s3", "path": "s3://a/b", "etag": "x"}


@pytest.mark.parametrize("options", [LinkOptions(link_type="s3"), LinkOptions(link_etag="x")])
def test_link_without_a_path(options: LinkOptions) -> None:
    """The error names the missing option."""
    with pytest.raises(InputError, match="Give --link-path"):
        options.link()


@dataclass(frozen=True)
class Base:
    """A group of one option."""

    size: Annotated[int, typer.Option(help="The size.")] = 1


@dataclass(frozen=True)
class Group(Base):
    """A group that inherits an option."""

    color: Annotated[str | None, typer.Option("--colour")] = None


def test_groups_become_options() -> None:
    """The fields of a dataclass are options of the command, which gets the dataclass."""
    app = typer.Typer()
    seen: list[tuple[str, Group, bool]] = []

    @app.command(help="Paint.")
    @with_groups
    def paint(name: str, group: Group, wet: bool = False) -> None:
        seen.append((name, group, wet))

    runner = CliRunner()
    assert runner.invoke(app, ["wall", "--size", "3", "--colour", "red", "--wet"]).exit_code == 0
    assert runner.invoke(app, ["door"]).exit_code == 0
    assert seen == [("wall", Group(3, "red"), True), ("door", Group(1, None), False)]
    assert "The size." in runner.invoke(app, ["--help"]).output
