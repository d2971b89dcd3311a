"""What the commands print: tables for people, JSON or YAML for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Record = Mapping[str, Any]


class Format(StrEnum):
    """An output format: `wide` is a table with more columns, `name` only what identifies each record."""

    JSON = "json"
    YAML = "yaml"
    WIDE = "wide"
    NAME = "name"


_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_format: ContextVar[Format | None] = ContextVar("format", default=None)


def choose(value: Format | None) -> Format | None:
    """Store the option `--format`, which may come before or after a command. The last one wins."""
    if value is not None:
        _format.set(value)
    return value


FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-o",
        help="Output format: for programs, ids only, or a table with more columns. The default is a table.",
        callback=choose,
    ),
]


def show_record(record: Record) -> None:
    """Print a record. A table leaves out empty fields."""
    if _for_programs(record):
        return
    rows = [(name, _lines(value)) for name, value in record.items() if value not in (None, "", [], {})]
    _grid([(name if not number else "", line) for name, lines in rows for number, line in enumerate(lines)])


def show_list(records: Sequence[Record], columns: Sequence[str], wide: Sequence[str] = ()) -> None:
    """Print records, one per line; with the columns `wide` only if the user chose that."""
    if _format.get() is Format.NAME:
        for record in records:
            print(clean(str(record.get("id", record.get(columns[0])))))
    elif not _for_programs(records):
        columns = (*columns, *wide) if _format.get() is Format.WIDE else columns
        rows = [[_cell(record.get(name)) for name in columns] for record in records]
        _grid([[name.upper().replace("_", " ") for name in columns], *rows], headed=True)


def for_people() -> bool:
    """Return whether the output is meant for people, that is, no format for programs was chosen."""
    return _format.get() in (None, Format.WIDE)


def clean(text: str) -> str:
    """Return text without colors and with all other control characters escaped.

    Names and logs may come from anywhere, so they must not control the terminal.
    """
    text = _COLOR.sub("", text)
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)


def say(text: str) -> None:
    """Print a note for people, which is not part of the result, to standard error."""
    print(clean(text), file=sys.stderr)


def _for_programs(value: Any) -> bool:
    chosen = _format.get()
    if chosen is Format.NAME:
        print(clean(str(value.get("id", next(iter(value.values()), "")))))
    elif chosen is Format.JSON:
        print(json.dumps(value, indent=2))
    elif chosen is Format.YAML:
        import yaml

        print(yaml.safe_dump(value, sort_keys=False), end="")
    return not for_people()


def _grid(rows: Sequence[Sequence[str]], *, headed: bool = False) -> None:
    """Print rows in columns. They are fitted to a terminal; a pipe gets every cell in full."""
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for number in range(len(rows[0]) if rows else 0):
        table.add_column(overflow="fold", no_wrap=number == 0)
    for number, row in enumerate(rows):
        bold = headed and number == 0
        table.add_row(
            *(Text(text, "bold" if bold or (not headed and not place) else "") for place, text in enumerate(row))
        )
    Console(highlight=False).print(table)


def _cell(value: Any) -> str:
    return " ".join(_lines(value))


def _lines(value: Any) -> list[str]:
    """Return the lines for a value. A list has a line for each item."""
    if isinstance(value, list):
        return [_cell(item) for item in value]
    if isinstance(value, Mapping):
        return [" ".join(f"{name}={_cell(item)}" for name, item in value.items() if item not in (None, "", {}))]
    return [_time(value) or clean(str(value))] if value is not None else [""]


def _time(value: Any) -> str:
    """Return a timestamp of the API in local time and without fractions of seconds, or an empty string."""
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) and len(value) > 18 else None
    except ValueError:
        when = None
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}" if when is not None else ""
