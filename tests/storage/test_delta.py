"""Which bytes of an artifact other objects have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies
from pydantic import ValidationError

from ims.storage.delta import MAX_BASES, MAX_RANGES, Delta, DeltaBase, Range, followed, shared, with_ancestors

SIZE = 64


def covered(ranges: list[Range]) -> set[tuple[int, int]]:
    """Each byte of an artifact with its place in the other object."""
    return {(item.offset + step, item.source_offset + step) for item in ranges for step in range(item.length)}


@strategies.composite
def copied(draw: strategies.DrawFn) -> list[Range]:
    """Sorted ranges without overlap in an artifact."""
    found, end = [], 0
    for _ in range(draw(strategies.integers(1, 4))):
        offset, length = end + draw(strategies.integers(0, 5)), draw(strategies.integers(1, 12))
        found.append(Range(offset=offset, length=length, source_offset=draw(strategies.integers(0, SIZE))))
        end = offset + length
    return found


@given(copied(), copied())
def test_base_of_a_base(new: list[Range], old: list[Range]) -> None:
    """A byte is that of the base's base exactly if it is one of the base that is one of its own base."""
    places = dict(covered(old))
    found = followed(new, old)
    assert covered(found) == {(place, places[source]) for place, source in covered(new) if source in places}
    Delta(size=10 * SIZE, bases=[base(ranges=found)] if found else [base()])


@given(copied(), copied())
def test_common_base(new: list[Range], old: list[Range]) -> None:
    """A byte of both is the same byte of their base, and ranges never overlap."""
    sources = {source: set[int]() for _, source in covered(old)}
    for place, source in covered(old):
        sources[source].add(place)
    found = covered(shared(new, old))
    origin = dict(covered(new))
    assert all(other in sources[origin[place]] for place, other in found)
    assert {place for place, _ in found} <= {place for place, source in origin.items() if source in sources}
    assert len(found) == len({place for place, _ in found})


def base(digit: str = "0", **fields: Any) -> DeltaBase:
    """A base of 100 bytes of which 10 are copied."""
    ranges = [Range(offset=5, length=10, source_offset=7)]
    known = {"path": f"s3://boot-images/{digit}/rootfs", "md5": digit * 32, "size": 10 * SIZE, "ranges": ranges}
    return DeltaBase.model_validate({**known, **fields})


def test_ancestors() -> None:
    """The manifest names the nearest ancestors first, each once, and those of which no byte is left not at all."""
    new = with_ancestors(50, base("a"), None)
    for digit in "bcdef0123456789":
        kept = Range(offset=5, length=10, source_offset=5)
        new = with_ancestors(50, base(digit, ranges=[kept]), new)
    assert [item.md5[0] for item in new.bases] == [*reversed("abcdef0123456789")]
    assert new.bases[-1].ranges == [Range(offset=5, length=10, source_offset=7)]
    assert len(with_ancestors(50, base("x", md5="ab" * 16, ranges=[kept]), new).bases) == MAX_BASES
    elsewhere = Range(offset=20, length=1, source_offset=20)
    assert [item.md5[0] for item in with_ancestors(50, base("a", ranges=[elsewhere]), new).bases] == ["a"]


ONE = {"offset": 0, "length": 10, "source_offset": 0}
BAD: dict[str, Any] = {
    "overlap": [ONE, {**ONE, "offset": 9}],
    "not sorted": [{**ONE, "offset": 20}, ONE],
    "after the end": [{**ONE, "offset": 41}],
    "after the end of the base": [{**ONE, "source_offset": 91}],
    "negative": [{**ONE, "offset": -1}],
    "negative in the base": [{**ONE, "source_offset": -1}],
    "empty": [{**ONE, "length": 0}],
    "too large": [{**ONE, "length": 2**64}],
    "no range": [],
    "too many": [{**ONE, "offset": 0, "length": 1}] * (MAX_RANGES + 1),
    "text": [{**ONE, "offset": "x"}],
}


@pytest.mark.parametrize("ranges", BAD.values(), ids=BAD)
def test_bad_ranges(ranges: list[dict[str, Any]]) -> None:
    """Ranges are sorted, do not overlap, and are inside of both objects."""
    fields = {"path": "s3://boot-images/1/rootfs", "md5": "0" * 32, "size": 100, "ranges": ranges}
    with pytest.raises(ValidationError):
        Delta.model_validate({"size": 50, "bases": [fields]})
    assert Delta.model_validate({"size": 50, "bases": [{**fields, "ranges": [ONE]}]})


@pytest.mark.parametrize("field", [{"md5": "x"}, {"md5": "A" * 32}, {"path": "http://x/y"}, {"size": -1}, {"size": 9}])
def test_bad_bases(field: dict[str, Any]) -> None:
    """The base is an object in S3 with an MD5."""
    fields = {"path": "s3://boot-images/1/rootfs", "md5": "0" * 32, "size": 100, "ranges": [ONE]}
    with pytest.raises(ValidationError):
        Delta.model_validate({"size": 50, "bases": [{**fields, **field}]})
    with pytest.raises(ValidationError):
        Delta.model_validate({"size": 50, "bases": [fields] * (MAX_BASES + 1)})
