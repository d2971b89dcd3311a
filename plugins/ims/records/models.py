"""The tables. The fields of recipes, images and public keys are those of IMS."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC. SQLite drops the time zone, and PostgreSQL converts to the time zone of its session."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Convert to UTC."""
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Convert to UTC; a time without a zone is UTC already."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """The metadata that all tables share."""


class Record(Base):
    """A recipe, image or public key."""

    __abstract__ = True

    id: Mapped[str]
    name: Mapped[str]
    created: Mapped[datetime]
    deleted: Mapped[datetime | None]
    purging: Mapped[bool]


class Common:
    """The columns of every record.

    A record with `deleted` set is a tombstone: hidden, but its objects are still there. While `purging` is set, these
    objects are being removed, and the tombstone cannot be undeleted.
    """

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=lambda: str(uuid.uuid4()))
    name: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    deleted: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    purging: Mapped[bool] = mapped_column(default=False, server_default=false())


class Linked(Common):
    """The columns of a record with an object in S3. `link` is {type, path, etag}; `link_path` repeats the path."""

    link: Mapped[dict[str, str] | None] = mapped_column(JSON, default=None)
    link_path: Mapped[str | None] = mapped_column(Text, default=None)
    arch: Mapped[str] = mapped_column(String(16), default="x86_64")


def _creation_order(table: str) -> tuple[Index, ...]:
    """Indexes for pages in the order of creation, of all records and of those with one name."""
    return (
        Index(f"{table}_created", "created", "id"),
        Index(f"{table}_name", "name", "created", "id"),
    )


def _link_paths(table: str) -> tuple[Index, ...]:
    """An index that forbids two living records with the same link, and one that also covers tombstones."""
    living = text("deleted IS NULL")
    return (
        Index(f"{table}_link_path", "link_path", unique=True, sqlite_where=living, postgresql_where=living),
        Index(f"{table}_any_link_path", "link_path"),
    )


class PublicKey(Common, Record):
    """An SSH public key that can log in to the shells of jobs."""

    __tablename__ = "public_keys"
    __table_args__ = _creation_order("public_keys")

    public_key: Mapped[str] = mapped_column(Text)


class Recipe(Linked, Record):
    """A recipe archive with its template variables."""

    __tablename__ = "recipes"
    __table_args__ = (*_creation_order("recipes"), *_link_paths("recipes"))

    recipe_type: Mapped[str] = mapped_column(String(32))
    linux_distribution: Mapped[str] = mapped_column(String(64))
    template_dictionary: Mapped[list[dict[str, str]]] = mapped_column(JSON, default=list)
    require_dkms: Mapped[bool] = mapped_column(default=True)
    nightly: Mapped[bool] = mapped_column(default=False, server_default=false())
    nightly_failures: Mapped[int] = mapped_column(default=0, server_default="0")
    profiles: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]")
    # The names of the files in /boot that jobs look up; None is the default of jobs.
    kernel_file_name: Mapped[str | None] = mapped_column(Text, default=None)
    initrd_file_name: Mapped[str | None] = mapped_column(Text, default=None)
    kernel_parameters_file_name: Mapped[str | None] = mapped_column(Text, default=None)


class Image(Linked, Record):
    """A set of artifacts that nodes boot. The link refers to its manifest."""

    __tablename__ = "images"
    __table_args__ = (*_creation_order("images"), *_link_paths("images"))

    job_id: Mapped[str | None] = mapped_column(String(36), default=None, index=True)
    # SQLAlchemy reserves the name `metadata`.
    labels: Mapped[dict[str, str]] = mapped_column("metadata", JSON, default=dict)
    source_image_id: Mapped[str | None] = mapped_column(String(36), default=None, index=True)
    changes: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    source_recipe_id: Mapped[str | None] = mapped_column(String(36), default=None, index=True)
    # When a plan last found that a new build of the recipe would produce the same image.
    checked: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    # The SHA-256 of the build inputs, if a script or a playbook made the image.
    customization_digest: Mapped[str | None] = mapped_column(String(64), default=None)
    nightly: Mapped[bool] = mapped_column(default=False, server_default=false())
    nightly_failures: Mapped[int] = mapped_column(default=0, server_default="0")
    kernels: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True), default=None)
    package_count: Mapped[int | None] = mapped_column(default=None)
    # When maintenance last read all objects in S3, and what was wrong with them.
    scrubbed: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    damage: Mapped[str | None] = mapped_column(Text, default=None)
    # The bytes of its artifacts.
    size: Mapped[int | None] = mapped_column(BigInteger, default=None)
    packages: Mapped[list[ImagePackage]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    objects: Mapped[list[ImageObject]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class ImageObject(Base):
    """An object in S3 that an image needs: its manifest or an artifact."""

    __tablename__ = "image_objects"

    image_id: Mapped[str] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(Text, primary_key=True, index=True)


class ImagePackage(Base):
    """A package installed in an image. `type` is rpm or deb, `version` is `[epoch:]version[-release]`."""

    __tablename__ = "image_packages"

    image_id: Mapped[str] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True, index=True)
    version: Mapped[str] = mapped_column(Text, primary_key=True)
    arch: Mapped[str] = mapped_column(String(32), primary_key=True)
    type: Mapped[str] = mapped_column(String(8))
    source: Mapped[str] = mapped_column(Text, default="")
    license: Mapped[str] = mapped_column(Text, default="")


class Shell(Base):
    """The shell of a job: how to reach it, when it closes, and the operation that a user requested."""

    __tablename__ = "shells"

    job_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    jail: Mapped[bool]
    host: Mapped[str] = mapped_column(Text)
    port: Mapped[int]
    command: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)
    run_url: Mapped[str] = mapped_column(Text, default="")
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    operation: Mapped[str | None] = mapped_column(String(16), default=None)
    closed: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


class AuditEntry(Base):
    """A change: who made it, and the values of the changed columns before and after. `id` is their order."""

    __tablename__ = "audit"
    __table_args__ = (Index("audit_created", "created"), Index("audit_record", "record_id", "id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    who: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(16))
    record_id: Mapped[str] = mapped_column(String(36))
    name: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)


AnyRecord = PublicKey | Recipe | Image
RecordType = TypeVar("RecordType", PublicKey, Recipe, Image)
