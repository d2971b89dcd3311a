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
    """For programs."""

    JSON = "json"
    YAML = "yaml"


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_format: ContextVar[Format | None] = ContextVar("format", default=None)


def choose(value: Format | None) -> Format | None:
    """Take the option `--format`, which may stand before and after a command; the last one counts."""
    if value is not None:
        _format.set(value)
    return value


FormatOption = Annotated[
    Format | None, typer.Option("--format", help="For programs. Without it: tables.", callback=choose)
]


def show_record(record: Record) -> None:
    """Print a record; people are spared the fields that are empty."""
    if _for_programs(record):
        return
    rows = [(name, _lines(value)) for name, value in record.items() if value not in (None, "", [], {})]
    _grid([(name if not number else "", line) for name, lines in rows for number, line in enumerate(lines)])


def show_list(records: Sequence[Record], columns: Sequence[str]) -> None:
    """Print records, one a line."""
    if not _for_programs(records):
        rows = [[_cell(record.get(name)) for name in columns] for record in records]
        _grid([[name.upper().replace("_", " ") for name in columns], *rows], headed=True)


def for_people() -> bool:
    """Whether no format for programs was asked for."""
    return _format.get() is None


def clean(text: str) -> str:
    """Text that cannot steer a terminal: names and logs come from anywhere. Colours are left out."""
    text = _COLOUR.sub("", text)
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)


def say(text: str) -> None:
    """Tell people something that is not the command's result."""
    print(clean(text), file=sys.stderr)


def _for_programs(value: Any) -> bool:
    chosen = _format.get()
    if chosen is Format.JSON:
        print(json.dumps(value, indent=2))
    elif chosen is Format.YAML:
        import yaml

        print(yaml.safe_dump(value, sort_keys=False), end="")
    return chosen is not None


def _grid(rows: Sequence[Sequence[str]], *, headed: bool = False) -> None:
    """Print rows in columns: fitted to a terminal, else uncut."""
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
    """A value as people read it; a list has a line each."""
    if isinstance(value, list):
        return [_cell(item) for item in value]
    if isinstance(value, Mapping):
        return [" ".join(f"{name}={_cell(item)}" for name, item in value.items() if item not in (None, "", {}))]
    return [_time(value) or clean(str(value))] if value is not None else [""]


def _time(value: Any) -> str:
    """A time of the API's in local time, without what nobody reads."""
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) and len(value) > 18 else None
    except ValueError:
        when = None
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}" if when is not None else ""
