"""Reads YAML that is not trusted: of bounded size and depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

MAX_DEPTH = 20
"""How many lists and mappings may be nested. More could overflow the stack in libyaml, which kills the process."""
MAX_ITEMS = 20_000
"""How many lists, mappings and values a document may have."""
MAX_VALUE = 64 * 1024
"""Characters of a value. Converting a long number takes long."""


_SHOWN = 100


class DocumentError(ValueError):
    """A document is not YAML, or exceeds a limit."""


def read_yaml(path: Path, max_bytes: int) -> Any:
    """The content of a YAML file. Raises DocumentError if it is invalid or larger than `max_bytes`."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DocumentError(f"it is larger than {max_bytes} bytes")
    return load_yaml(data)


def load_yaml(data: bytes) -> Any:
    """The content of a YAML document. Raises DocumentError if it is invalid or exceeds a limit."""
    try:
        _check(data)
        return yaml.load(data, yaml.CSafeLoader)
    except DocumentError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise DocumentError(" ".join(str(error).split())) from None


def _check(data: bytes) -> None:
    """Read the document without building it. Raises DocumentError if it exceeds a limit."""
    items = 0
    anchors: dict[str, int] = {}  # how many items each has
    nested: list[tuple[str | None, int]] = []  # the anchor of each list and mapping, and the items before it
    for event in yaml.parse(data, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            items += _alias(str(event.anchor), anchors, nested)
        elif isinstance(event, yaml.ScalarEvent):
            items += 1
            anchors |= {event.anchor: 1} if event.anchor else {}
            if len(event.value) > MAX_VALUE:
                raise DocumentError(f"it has a value of {len(event.value)} characters, more than {MAX_VALUE}")
        elif isinstance(event, yaml.CollectionStartEvent):
            nested.append((event.anchor, items))
            items += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = nested.pop()
            anchors |= {anchor: items - before} if anchor else {}
        if len(nested) > MAX_DEPTH:
            raise DocumentError(f"it is nested deeper than {MAX_DEPTH} levels")
        if items > MAX_ITEMS:
            raise DocumentError(f"it has more than {MAX_ITEMS} items")


def _alias(name: str, anchors: Mapping[str, int], nested: Iterable[tuple[str | None, int]]) -> int:
    """The number of items that an alias stands for. Raises DocumentError if aliases could multiply."""
    if any(anchor for anchor, _ in nested):
        raise DocumentError(f"the alias *{name[:_SHOWN]} is inside of an anchor")
    if name not in anchors:
        raise DocumentError(f"the alias *{name[:_SHOWN]} has no anchor")
    return anchors[name]
