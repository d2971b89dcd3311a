"""What two similar files share."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ims.storage import matching
from ims.storage.delta import MAX_RANGES, Range
from ims.storage.matching import matching_ranges

NOISE = random.Random(2).randbytes(3_000_000)  # noqa: S311  (no secret)
LOST = 2 * 4096
"""Bytes at each end of a range that may not be found."""


def matched(folder: Path, new: bytes, old: bytes, new_start: int = 0, old_start: int = 0) -> tuple[list[Range], int]:
    """Compare two contents; returns the ranges, which are right, and how many bytes they have."""
    for name, content in (("new", new), ("old", old)):
        (folder / name).write_bytes(content)
    found = matching_ranges(folder / "new", folder / "old", new_start, old_start)
    end = new_start
    for item in found:
        assert item.offset >= end
        assert item.source_offset >= old_start
        assert new[item.offset : item.end] == old[item.source_offset : item.source_end] != b""
        end = item.end
    return found, sum(item.length for item in found)


CHANGES = {
    "nothing": NOISE,
    "a byte": NOISE[:1_000_000] + b"x" + NOISE[1_000_001:],
    "something was inserted": NOISE[:1_000_000] + b"inserted" + NOISE[1_000_000:],
    "something was removed": NOISE[:1_000_000] + NOISE[1_500_000:],
    "something large comes first": NOISE[::-1] + NOISE,
    "something follows": NOISE + b"behind",
}


@pytest.mark.parametrize("new", CHANGES.values(), ids=CHANGES)
def test_most_is_found(tmp_path: Path, new: bytes) -> None:
    """Wherever a change is, what is before and behind it is found."""
    found, count = matched(tmp_path, new, NOISE)
    assert len(found) <= 2
    assert count >= min(len(new), len(NOISE)) - 2 * LOST


def test_rest_of_files(tmp_path: Path) -> None:
    """Only what follows the given bytes is compared."""
    found, count = matched(tmp_path, b"head" + NOISE, b"longer head" + NOISE, 4, 11)
    assert [(item.offset, item.source_offset) for item in found] == [(4, 11)]
    assert count >= len(NOISE) - LOST


@pytest.mark.parametrize("new", [b"", b"short", NOISE[::-1]], ids=len)
def test_nothing_in_common(tmp_path: Path, new: bytes) -> None:
    """Then there is no range."""
    assert matched(tmp_path, new, NOISE) == ([], 0)
    assert matched(tmp_path, NOISE, new[:5000]) == ([], 0)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large parts are not read."""
    monkeypatch.setattr(matching, "MAX_BYTES", len(NOISE) - 1)
    assert matched(tmp_path, NOISE, NOISE) == ([], 0)
    assert matched(tmp_path, NOISE, NOISE, 1, 1)[1] > 0


def test_many_changes(tmp_path: Path) -> None:
    """The largest ranges are kept, in order."""
    new = b"".join(NOISE[start : start + 9_000] + b"x" for start in range(0, len(NOISE), 9_001))
    found, _ = matched(tmp_path, new, NOISE)
    assert len(found) == MAX_RANGES


@pytest.mark.parametrize("pattern", [b"\0", b"ab", b"\0" * 4095 + b"x", b"x" + b"\0" * 4096])
def test_hostile_content(tmp_path: Path, pattern: bytes) -> None:
    """Content that repeats takes no long time."""
    start = time.monotonic()
    old = pattern * (8_000_000 // len(pattern))
    for new in (old[:-1] + b"y", old[::-1], bytes(len(old))):
        matched(tmp_path, new, old)
    assert time.monotonic() - start < 30
