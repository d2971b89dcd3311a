"""`/images`: what nodes boot."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BeforeValidator, Field

from ims.api.access import may_delete, may_read, may_write
from ims.api.links import check_image_link, set_link
from ims.api.problems import Problem
from ims.api.schemas import Arch, ArtifactLink, LinkOut, Name, PatchBody, RecordOut, RequestBody, Text
from ims.api.services import RecordsService, StoreService
from ims.errors import MissingError
from ims.images.changes import Changes
from ims.jobs import Identity
from ims.records.models import Image
from ims.records.store import IdTakenError

router = APIRouter(prefix="/images", tags=["images"])


def _pairs(value: Any) -> Any:
    """`cray ims` sends metadata as one pair {key, value}; the API's own form is a mapping."""
    if isinstance(value, dict) and set(value) == {"key", "value"} and isinstance(value["key"], str):
        return {value["key"]: value["value"]}
    return value


Labels = Annotated[dict[Text, Text], BeforeValidator(_pairs), Field(max_length=1000)]


class ImageIn(RequestBody):
    """A new image; its link names the manifest. `job_id` is the job that made it, the rest says of what and how."""

    name: Name
    link: ArtifactLink | None = None
    arch: Arch = "x86_64"
    metadata: Labels = Field(default_factory=dict)
    job_id: Identity | None = None
    source_image_id: Identity | None = None
    changes: Changes | None = None


class MetadataChange(RequestBody):
    """Set or remove one entry of an image's metadata."""

    operation: Literal["set", "remove"]
    key: Annotated[Text, Field(min_length=1, max_length=255)]
    value: Text = ""


class ImagePatch(PatchBody):
    """What of an image can be changed."""

    link: ArtifactLink | None = None
    arch: Arch | None = None
    metadata: MetadataChange | None = None


class ImageOut(RecordOut):
    """An image."""

    link: LinkOut | None
    arch: str
    metadata: dict[str, str] = Field(validation_alias="labels")
    job_id: str | None
    source_image_id: str | None
    changes: Changes | None


@router.get("", dependencies=[may_read()], response_model=list[ImageOut])
def list_images(records: RecordsService) -> list[Image]:
    """All images."""
    return records.list(Image)


@router.post("", status_code=201, dependencies=[may_write()], response_model=ImageOut)
def create_image(body: ImageIn, records: RecordsService, store: StoreService) -> Image:
    """Register an image."""
    return records.add(_image(body, store))


@router.delete("", status_code=204, dependencies=[may_delete()])
def delete_images(records: RecordsService) -> None:
    """Delete all images."""
    records.delete_all(Image)


@router.get("/{image_id}", dependencies=[may_read()], response_model=ImageOut)
def get_image(image_id: str, records: RecordsService) -> Image:
    """One image."""
    return records.get(Image, image_id)


@router.put("/{image_id}", dependencies=[may_write()], response_model=ImageOut)
def put_image(
    image_id: Annotated[Identity, Path()], body: ImageIn, records: RecordsService, store: StoreService
) -> Image:
    """Register an image under an id of the caller's; the same again changes nothing, so it can be retried."""
    try:
        known = records.get(Image, image_id)
    except MissingError:
        image = _image(body, store)
        image.id = image_id
        try:
            return records.add(image)
        except IdTakenError:
            # By a tombstone, or by the same request that came at the same moment.
            if (found := records.find(Image, image_id)) is None or found.deleted is not None:
                raise
            known = found
    same = (known.name, known.arch, known.job_id) == (body.name, body.arch, body.job_id)
    if not same or known.link_path != (body.link.path if body.link else None):
        raise Problem(409, f"there is another image with the id {image_id}")
    return known


@router.patch("/{image_id}", dependencies=[may_write()], response_model=ImageOut)
def update_image(image_id: str, body: ImagePatch, records: RecordsService, store: StoreService) -> Image:
    """Change an image."""
    records.get(Image, image_id)
    if body.link is not None:
        check_image_link(store, body.link)

    def change(image: Image) -> None:
        if body.link is not None:
            set_link(image, body.link)
        if body.arch is not None:
            image.arch = body.arch
        if body.metadata is not None:
            image.labels = _changed(image.labels, body.metadata)

    return records.change(Image, image_id, change)


@router.delete("/{image_id}", status_code=204, dependencies=[may_delete()])
def delete_image(image_id: str, records: RecordsService) -> None:
    """Delete an image."""
    records.delete(Image, image_id)


def _image(body: ImageIn, store: StoreService) -> Image:
    known = body.model_dump(include={"name", "arch", "job_id", "source_image_id", "changes"})
    image = Image(**known, labels=body.metadata)
    if body.link is not None:
        check_image_link(store, body.link)
        set_link(image, body.link)
    return image


def _changed(labels: dict[str, str], change: MetadataChange) -> dict[str, str]:
    rest = {key: value for key, value in labels.items() if key != change.key}
    return rest if change.operation == "remove" else {**rest, change.key: change.value}
