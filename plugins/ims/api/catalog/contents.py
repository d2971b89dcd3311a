"""`/images/{id}/packages` and `/images/{id}/diff/{other}`: the contents of images."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict

from ims.api.catalog.links import artifact_of, read_linked_manifest
from ims.api.http.auth import may_read
from ims.api.http.lists import UNKNOWN_HEADER, unknown_header
from ims.api.http.schemas import ArtifactLink, Id
from ims.api.http.services import RecordsService, StoreService
from ims.errors import UnavailableError
from ims.images.differences import FileDifferences, PackageDifferences, compare_files, compare_packages
from ims.images.files import read_lines
from ims.images.packages import Package
from ims.records.models import Image, ImagePackage
from ims.records.store import Records
from ims.storage.manifest import FILES, ROOTFS, Manifest
from ims.storage.objects import ObjectStore

router = APIRouter()

COMPARISONS = threading.BoundedSemaphore(4)
"""Comparing takes seconds of a processor. More at the same time would leave no thread for other requests."""


class PackageOut(BaseModel):
    """A package of an image. `type` is rpm or deb; `version` is the full `[epoch:]version[-release]`."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    version: str
    arch: str
    type: str
    source: str
    license: str


class Sizes(BaseModel):
    """The sizes of the rootfs of two images, in bytes."""

    before: int
    after: int
    difference: int


class ImageDifference(BaseModel):
    """The changes from the image `before` to the image `after`. A part that is unknown for one of them is null."""

    before: str
    after: str
    packages: PackageDifferences | None
    files: FileDifferences | None
    rootfs: Sizes | None


@router.get(
    "/{id}/packages",
    dependencies=[may_read()],
    response_model=list[PackageOut],
    responses={200: {"headers": UNKNOWN_HEADER}},
)
def list_packages(identity: Id, records: RecordsService, response: Response) -> Sequence[ImagePackage]:
    """List the packages of an image by name. If they are unknown, the list is empty and `package_count` is null."""
    response.headers.update(unknown_header(int(records.get(Image, identity).package_count is None)))
    return records.packages(identity)


@router.get("/{id}/diff/{other}", dependencies=[may_read()])
def compare_images(
    identity: Id, other: Annotated[str, Path()], records: RecordsService, store: StoreService
) -> ImageDifference:
    """Compare an image with another one."""
    left, right = records.get(Image, identity), records.get(Image, other)
    with _one_of_few():
        manifests = [_manifest(store, image) for image in (left, right)]
        return ImageDifference(
            before=left.id,
            after=right.id,
            packages=_packages(records, left, right),
            files=_files(store, *manifests),
            rootfs=_sizes(store, *manifests),
        )


@contextmanager
def _one_of_few() -> Iterator[None]:
    """Raises UnavailableError if there are too many comparisons now."""
    if not COMPARISONS.acquire(blocking=False):
        raise UnavailableError("too many images are compared at the same time", "Try again in a minute")
    try:
        yield
    finally:
        COMPARISONS.release()


def _manifest(store: ObjectStore, image: Image) -> Manifest | None:
    return read_linked_manifest(store, ArtifactLink(**image.link)) if image.link is not None else None


def _packages(records: Records, *images: Image) -> PackageDifferences | None:
    installed = [records.packages(image.id) for image in images]
    if any(image.package_count != len(packages) for image, packages in zip(images, installed, strict=True)):
        return None
    return compare_packages(*([_package(item) for item in packages] for packages in installed))


def _package(item: ImagePackage) -> Package:
    return Package(item.name, item.version, item.arch, item.type)


def _files(store: ObjectStore, left: Manifest | None, right: Manifest | None) -> FileDifferences | None:
    before, after = _lines(store, left), _lines(store, right)
    return compare_files(before, after) if before is not None and after is not None else None


def _lines(store: ObjectStore, manifest: Manifest | None) -> Iterator[bytes] | None:
    name = artifact_of(manifest, FILES) if manifest is not None else None
    return read_lines(store.read(name), name) if name is not None else None


def _sizes(store: ObjectStore, *manifests: Manifest | None) -> Sizes | None:
    names = [artifact_of(manifest, ROOTFS) for manifest in manifests if manifest is not None]
    found = [store.stat(name).size for name in names if name is not None]
    if len(found) < len(manifests):
        return None
    before, after = found
    return Sizes(before=before, after=after, difference=after - before)
