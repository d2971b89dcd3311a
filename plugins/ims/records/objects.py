"""Which objects in S3 the records refer to: the archives of recipes, the manifests and artifacts of images."""

from __future__ import annotations

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from ims.records.database import Database
from ims.records.models import AnyRecord, Image, ImageObject, Recipe

_REFERENCES = (Recipe.link_path, Image.link_path, ImageObject.path)
"""The columns that hold addresses of objects."""


class ObjectReferences:
    """Looks up references to objects. Tombstones count: their objects are still there. Addresses are S3 URLs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._complete = False

    def all(self) -> set[str]:
        """The addresses of all objects that a record refers to."""
        with self._database.reading() as session:
            return {path for column in _REFERENCES for path in session.scalars(select(column)) if path is not None}

    def contains(self, path: str) -> bool:
        """Whether a record refers to the object."""
        with self._database.reading() as session:
            return any(session.scalars(select(column).where(column == path)).first() for column in _REFERENCES)

    def of_image(self, image: Image) -> set[str]:
        """The addresses of the objects that an image needs, as far as they are known."""
        with self._database.reading() as session:
            return set(session.scalars(select(ImageObject.path).where(ImageObject.image_id == image.id)))

    def exclusive_to(self, record: AnyRecord, paths: set[str]) -> list[str]:
        """The objects among `paths` that no record but `record` needs."""
        with self._database.reading() as session:
            return exclusive_paths(session, record, paths)

    def owner_ids(self) -> set[str]:
        """The ids of all recipes and images: an object in a folder with such a name belongs to that record."""
        with self._database.reading() as session:
            return {identity for kind in (Recipe, Image) for identity in session.scalars(select(kind.id))}

    def images_without_objects(self) -> list[Image]:
        """The images with a link whose objects are not known: they were registered by an early version."""
        if self._complete:
            return []
        known = exists().where(ImageObject.image_id == Image.id)
        with self._database.reading() as session:
            images = list(session.scalars(select(Image).where(Image.link_path.is_not(None), ~known)))
        self._complete = not images  # registration stores the objects of every new image
        return images


def exclusive_paths(session: Session, record: AnyRecord, paths: set[str]) -> list[str]:
    """The objects among `paths` that no other record needs. A record that is being purged needs none."""
    queries = [
        select(Recipe.link_path).where(Recipe.link_path.in_(paths), Recipe.id != record.id, ~Recipe.purging),
        select(Image.link_path).where(Image.link_path.in_(paths), Image.id != record.id, ~Image.purging),
        select(ImageObject.path).join(Image).where(ImageObject.path.in_(paths), Image.id != record.id, ~Image.purging),
    ]
    return sorted(paths - {path for query in queries for path in session.scalars(query)})
