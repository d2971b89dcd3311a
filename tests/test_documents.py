"""YAML that is not trusted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ims.documents import MAX_DEPTH, MAX_ITEMS, DocumentError, load_yaml, read_yaml


def nested(depth: int) -> str:
    """Lists in lists."""
    return "[" * depth + "]" * depth


ACCEPTED = {
    "": None,
    "a: [1, b]": {"a": [1, "b"]},
    "a: &x {b: 1}\nc: [*x, *x]": {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]},
    "a: &x {b: 1}\nc: {<<: *x, d: 2}": {"a": {"b": 1}, "c": {"b": 1, "d": 2}},
}


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.items())
def test_load(text: str, expected: object) -> None:
    """Anchors may be used."""
    assert load_yaml(text.encode()) == expected


def test_limits_are_inclusive() -> None:
    """A document that has as much as the limits say is accepted."""
    load_yaml(nested(MAX_DEPTH).encode())
    assert len(load_yaml(("- 1\n" * (MAX_ITEMS - 1)).encode())) == MAX_ITEMS - 1


def laughs(opening: str, closing: str) -> str:
    """Aliases of aliases: a billion items after nine lines."""
    lines = [f"a0: &a0 {opening}x: 1{closing}" if opening == "{" else "a0: &a0 [1]"]
    for number in range(1, 10):
        alias = f"*a{number - 1}"
        body = f"{{<<: [{', '.join([alias] * 10)}]}}" if opening == "{" else f"[{', '.join([alias] * 10)}]"
        lines.append(f"a{number}: &a{number} {body}")
    return "\n".join(lines)


REFUSED = {
    "3,000 lists": ("[" * 3000, "nested deeper than 20 levels"),
    "a million lists": ("[" * 1_000_000, "nested deeper than 20 levels"),
    "mappings": ("{a: " * 30 + "}" * 30, "nested deeper than 20 levels"),
    "blocks": ("- " * 30 + "a", "nested deeper than 20 levels"),
    "keys": ("? " * 3000, "nested deeper than 20 levels"),
    "many items": ("[1," * 1 + "1," * MAX_ITEMS + "]", f"more than {MAX_ITEMS} items"),
    "a billion laughs": (laughs("[", "]"), "the alias *a0 is inside of an anchor"),
    "a billion merges": (laughs("{", "}"), "the alias *a0 is inside of an anchor"),
    "many aliases": (f"a: &a [{'1,' * 9000}]\nb: [*a, *a, *a]", f"more than {MAX_ITEMS} items"),
    "an alias of itself": ("a: &a [*a]", "the alias *a is inside of an anchor"),
    "an alias of nothing": ("a: *b", "the alias *b has no anchor"),
    "a long number": (":".join("1" * 100_000), "a value of 199999 characters"),
    "a program": ("!!python/object/apply:os.getpid []", "could not determine a constructor"),
    "bytes": ("\x00", "unacceptable character"),
    "a date that does not exist": ("2026-13-45", "month must be in"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, reason: str) -> None:
    """Soon, and with the value and the limit."""
    begin = time.process_time()
    with pytest.raises(DocumentError) as caught:
        load_yaml(text.encode())
    assert reason in str(caught.value)
    assert time.process_time() - begin < 2


def test_large_file_is_not_read() -> None:
    """A file without an end is refused like any other."""
    with pytest.raises(DocumentError, match="it is larger than 1000 bytes"):
        read_yaml(Path("/dev/zero"), 1000)
