"""Selecting records by their properties, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Integer,
    Select,
    String,
    Text,
    and_,
    bindparam,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from ims.records.models import Image, ImagePackage, UtcDateTime


@dataclass(frozen=True)
class Position:
    """The position of a record in the order of creation. The id makes the order unique and stable."""

    created: datetime
    id: str


@dataclass(frozen=True)
class Selection:
    """Selects the records that match every filter that is not None, oldest first; tombstones only if `deleted`.

    `created_after` and `created_before` are exclusive. `labels` are entries in the metadata of an image. `package` is
    the name of an installed package, `versions` maps package types to the versions to match. `damaged` selects images
    with objects that are damaged. `after` and `limit` select a page.
    """

    deleted: bool = False
    name: str | None = None
    arch: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    package: str | None = None
    versions: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    after: Position | None = None
    limit: int | None = None
    newest_first: bool = False
    damaged: bool = False

    def query(self, kind: Any, dialect: str) -> Select[Any]:
        """The query for the selected records of `kind`."""
        return statement(kind, dialect, self.shape()).params(self.values())

    def unknown(self, dialect: str) -> Select[int]:
        """The query for the number of images that may have the package: theirs are unknown, all other filters match."""
        others = replace(self, package=None, versions=None, after=None)
        conditions = _conditions(Image, dialect, others.shape())
        unknown = select(func.count()).select_from(Image).where(*conditions, Image.package_count.is_(None))
        return unknown.params(others.values())

    def shape(self) -> Shape:
        """What distinguishes the queries of selections, apart from their parameters."""
        return Shape(self.deleted, self.newest_first, self.damaged, self.versions is not None, frozenset(self.values()))

    def values(self) -> dict[str, Any]:
        """The parameters of the query."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        if self.after is not None:
            found |= {"position_created": self.after.created, "position_id": self.after.id}
        for number, (key, value) in enumerate(self.labels):
            found |= {f"key_{number}": key, f"value_{number}": value}
        for number, (package_type, versions) in enumerate(self.versions or ()):
            found |= {f"type_{number}": package_type, f"versions_{number}": list(versions)}
        return {name: value for name, value in found.items() if value is not None}


_PLAIN = ("name", "arch", "package", "created_after", "created_before", "limit")


@dataclass(frozen=True)
class Shape:
    """The properties of a selection that decide the text of its query; `names` are those of its parameters.

    To write the text takes SQLAlchemy longer than most queries take, so it is kept.
    """

    deleted: bool
    newest_first: bool
    damaged: bool
    has_versions: bool
    names: frozenset[str]

    def numbered(self, name: str) -> Sequence[int]:
        """The numbers of the parameters `name_0`, `name_1` and so on."""
        return range(sum(known.startswith(f"{name}_") for known in self.names))


@lru_cache(maxsize=200)
def statement(kind: Any, dialect: str, shape: Shape) -> Select[Any]:
    """The query for the records of a kind, without its parameters."""
    order = (kind.created.desc(), kind.id.desc()) if shape.newest_first else (kind.created, kind.id)
    query = select(kind).where(*_conditions(kind, dialect, shape)).order_by(*order)
    return query.limit(bindparam("limit", type_=Integer)) if "limit" in shape.names else query


def _conditions(kind: Any, dialect: str, shape: Shape) -> list[ColumnElement[bool]]:
    conditions = [kind.deleted.is_not(None) if shape.deleted else kind.deleted.is_(None)]
    for name in ("name", "arch"):
        if name in shape.names:
            conditions.append(getattr(kind, name) == bindparam(name))
    if "created_after" in shape.names:
        conditions.append(kind.created > bindparam("created_after"))
    if "created_before" in shape.names:
        conditions.append(kind.created < bindparam("created_before"))
    if "position_id" in shape.names:
        place = tuple_(bindparam("position_created", type_=UtcDateTime), bindparam("position_id", type_=String))
        conditions.append(tuple_(kind.created, kind.id) > place)
    if shape.damaged:
        conditions.append(kind.damage.is_not(None))
    if "package" in shape.names:
        conditions.append(_has_package(kind, shape, dialect))
    return conditions + [_has_label(kind, number, dialect) for number in shape.numbered("key")]


def _has_label(kind: Any, number: int, dialect: str) -> ColumnElement[bool]:
    each = func.json_each if dialect == "sqlite" else func.json_each_text
    entry = each(kind.labels).table_valued("key", "value")
    key, value = bindparam(f"key_{number}", type_=Text), bindparam(f"value_{number}", type_=Text)
    return exists(select(literal(1)).where(entry.c.key == key, entry.c.value == value))


def _has_package(kind: Any, shape: Shape, dialect: str) -> ColumnElement[bool]:
    """A subquery for each image, so that a page costs the same whether many images have the package or few."""
    installed = exists().where(ImagePackage.image_id == kind.id, ImagePackage.name == bindparam("package"))
    if not shape.has_versions:
        return installed
    # One JSON parameter: there may be more versions than a statement can have parameters.
    each = func.json_each if dialect == "sqlite" else func.json_array_elements_text
    matches = [
        and_(
            ImagePackage.type == bindparam(f"type_{number}"),
            ImagePackage.version.in_(
                select(each(bindparam(f"versions_{number}", type_=JSON)).table_valued("value").c.value)
            ),
        )
        for number in shape.numbered("type")
    ]
    return installed.where(or_(false(), *matches))
