"""Which bytes of an artifact other objects also have. A client that has one of these objects fetches only the rest.

The field `delta` of an artifact in the manifest contains them. Clients that do not know the field ignore it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

MAX_BASES = 16
"""How many ancestors of an image its manifest names: the nearest ones."""
MAX_RANGES = 100
MAX_SIZE = 2**50

_Size = Annotated[int, Field(ge=0, le=MAX_SIZE)]


class Range(BaseModel):
    """`length` bytes at `offset` of an artifact, which a base has at `source_offset`."""

    offset: _Size
    length: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    source_offset: _Size

    @property
    def end(self) -> int:
        """Where the bytes end in the artifact."""
        return self.offset + self.length

    @property
    def source_end(self) -> int:
        """Where the bytes end in the base."""
        return self.source_offset + self.length


class DeltaBase(BaseModel):
    """An object that has bytes of an artifact. `md5` and `size` are those of the whole object."""

    path: Annotated[str, Field(pattern=r"^s3://[^\x00]+$", max_length=1100)]
    etag: Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=100)] = ""
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    size: _Size
    ranges: Annotated[list[Range], Field(min_length=1, max_length=MAX_RANGES)]


class Delta(BaseModel):
    """The size of an artifact, and the objects that share bytes with it: first the one that it was made from."""

    size: _Size
    bases: Annotated[list[DeltaBase], Field(min_length=1, max_length=MAX_BASES)]

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for base in self.bases:
            end = 0
            for item in base.ranges:
                if item.offset < end:
                    raise ValueError(f"the ranges of {base.path} overlap or are not sorted at {item.offset}")
                if item.end > self.size or item.source_end > base.size:
                    raise ValueError(f"the range of {base.path} at {item.offset} exceeds one of the objects")
                end = item.end
        return self


def with_ancestors(size: int, base: DeltaBase, earlier: Delta | None) -> Delta:
    """The delta of an artifact that has bytes of `base`. `earlier` is the delta of that base itself."""
    bases = [base]
    for ancestor in earlier.bases if earlier is not None else ():
        if ancestor.md5 != base.md5 and (ranges := followed(base.ranges, ancestor.ranges)):
            bases.append(ancestor.model_copy(update={"ranges": ranges}))
    return Delta(size=size, bases=bases[:MAX_BASES])


def followed(ranges: Iterable[Range], earlier: Iterable[Range]) -> list[Range]:
    """What an artifact shares with the base of its base. `ranges` belong to the artifact, `earlier` to its base."""
    return _sorted(_overlaps(ranges, list(earlier)))


def shared(ranges: Iterable[Range], others: Iterable[Range]) -> list[Range]:
    """What an artifact shares with another one of the same base. `ranges` and `others` map them to the base."""
    turned = [Range(offset=item.source_offset, length=item.length, source_offset=item.offset) for item in others]
    return _sorted(_overlaps(ranges, turned))


def _overlaps(ranges: Iterable[Range], earlier: list[Range]) -> Iterator[Range]:
    for new in ranges:
        for old in earlier:
            start, end = max(new.source_offset, old.offset), min(new.source_end, old.end)
            if start < end:
                yield Range(
                    offset=new.offset + start - new.source_offset,
                    length=end - start,
                    source_offset=old.source_offset + start - old.offset,
                )


def _sorted(ranges: Iterable[Range]) -> list[Range]:
    """At most MAX_RANGES ranges in order. Of those that overlap, only the first is kept."""
    found: list[Range] = []
    for item in sorted(ranges, key=lambda item: (item.offset, -item.length)):
        if not found or item.offset >= found[-1].end:
            found.append(item)
    return found[:MAX_RANGES]
