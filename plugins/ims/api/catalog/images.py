"""`/images`: the images that nodes boot."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from ims.api.catalog.documents import Documents
from ims.api.catalog.links import Linked, check_image_link, has_link, set_link
from ims.api.catalog.listing import by_packages, page
from ims.api.catalog.registration import register
from ims.api.errors import FieldError
from ims.api.http.auth import may_read, may_write, only_service
from ims.api.http.lists import IMAGES_PAGE
from ims.api.http.owners import SERVICE
from ims.api.http.schemas import (
    Arch,
    ArtifactLink,
    Id,
    ImageName,
    LinkOut,
    Moment,
    PatchBody,
    RecordOut,
    RequestBody,
    Text,
)
from ims.api.http.services import RecordsService, StoreService
from ims.images.changes import Changes
from ims.params import Identity
from ims.records.models import Image, ImageObject, ImagePackage
from ims.records.selection import Selection

router = APIRouter()
Selected = Annotated[Selection, Depends(by_packages)]


MAX_DAMAGE = 16 * 1024
MAX_LABELS, MAX_LABELS_SIZE = 1000, 256 * 1024


def _pairs(value: Any) -> Any:
    """Accepts metadata as one pair {key, value}, which `cray ims` sends, or as a mapping. The value may be missing."""
    is_pair = isinstance(value, dict) and "key" in value and set(value) <= {"key", "value"}
    if is_pair and isinstance(value["key"], str):
        return {value["key"]: value.get("value", "")}
    return value


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Returns the metadata of an image. Raises ValueError if there is too much of it."""
    size = sum(len(key) + len(value) for key, value in labels.items())
    if len(labels) > MAX_LABELS or size > MAX_LABELS_SIZE:
        raise ValueError(f"an image has at most {MAX_LABELS} entries with {MAX_LABELS_SIZE} characters together")
    return labels


Key = Annotated[Text, Field(max_length=255)]
Labels = Annotated[dict[Key, Text], BeforeValidator(_pairs), AfterValidator(check_labels)]


Kernels = Annotated[list[Annotated[Text, Field(max_length=255)]], Field(max_length=100)]
PackageCount = Annotated[int, Field(ge=0, le=1_000_000)]
Size = Annotated[int, Field(ge=0, lt=2**63)]
FailedNights = Annotated[int, Field(ge=0, le=1_000_000)]
Damage = Annotated[Text, Field(max_length=MAX_DAMAGE)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ImageIn(RequestBody):
    """A new image. Its link names the manifest; `job_id` is the job that built it.

    Only the service sets `job_id`, the sources, `changes`, `checked`, `kernels`, `package_count`, `size`,
    `customization_digest`, `nightly_failures`, `scrubbed` and `damage`.
    """

    name: ImageName
    link: ArtifactLink | None = None
    arch: Arch = "x86_64"
    metadata: Labels = Field(default_factory=dict)
    pinned: bool = False
    nightly: bool = False
    job_id: Annotated[Identity | None, SERVICE] = None
    source_image_id: Annotated[Identity | None, SERVICE] = None
    changes: Annotated[Changes | None, SERVICE] = None
    source_recipe_id: Annotated[Identity | None, SERVICE] = None
    checked: Annotated[Moment | None, SERVICE] = None
    kernels: Annotated[Kernels | None, SERVICE] = None
    package_count: Annotated[PackageCount | None, SERVICE] = None
    size: Annotated[Size | None, SERVICE] = None
    customization_digest: Annotated[Digest | None, SERVICE] = None
    nightly_failures: Annotated[FailedNights, SERVICE] = 0
    scrubbed: Annotated[Moment | None, SERVICE] = None
    damage: Annotated[Damage | None, SERVICE] = None


class MetadataChange(RequestBody):
    """Sets or removes one entry of the metadata. BOS sends the value null when it removes one."""

    operation: Literal["set", "remove"]
    key: Annotated[Text, Field(min_length=1, max_length=255)]
    value: Text | None = ""

    @field_validator("value")
    @classmethod
    def _is_set_to_text(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("operation") == "set":
            raise ValueError("must not be null, unless the operation is remove")
        return value


class ImagePatch(PatchBody):
    """The fields of an image that can be changed. Setting `nightly` resets the count of failed nights.

    An empty `damage` means that all objects are whole.
    """

    name: ImageName | None = None
    link: ArtifactLink | None = None
    arch: Arch | None = None
    metadata: MetadataChange | None = None
    pinned: bool | None = None
    nightly: bool | None = None
    checked: Annotated[Moment | None, SERVICE] = None
    nightly_failures: Annotated[FailedNights | None, SERVICE] = None
    scrubbed: Annotated[Moment | None, SERVICE] = None
    damage: Annotated[Damage | None, SERVICE] = None


class ImageOut(RecordOut):
    """An image."""

    link: LinkOut | None
    arch: str
    metadata: dict[str, str] = Field(validation_alias="labels")
    job_id: str | None
    source_image_id: str | None
    changes: Changes | None
    source_recipe_id: str | None
    checked: datetime | None
    pinned: bool
    kernels: list[str] | None
    package_count: int | None
    size: int | None = Field(description="Number of bytes of all artifacts; null if it is not known.")
    customization_digest: str | None = Field(
        description="SHA-256 of customization.json, if a script or a playbook made the image."
    )
    nightly: bool = Field(description="Whether nights repeat the customization.")
    nightly_failures: int
    scrubbed: datetime | None = Field(description="When maintenance last read all objects of the image in S3.")
    damage: str | None = Field(description="Which objects are missing or damaged, if maintenance found any.")


class DeletedImageOut(ImageOut):
    """A deleted image."""

    deleted: datetime


DOCUMENTS = Documents(Image, ImageOut)


@router.get("", dependencies=[may_read()], response_model=list[ImageOut], responses=IMAGES_PAGE)
async def list_images(request: Request, records: RecordsService, selection: Selected) -> Response:
    """List images, oldest first."""
    return await page(request, records, DOCUMENTS, selection)


@router.post("", status_code=201, dependencies=[may_write()], response_model=ImageOut)
def create_image(body: ImageIn, records: RecordsService, store: StoreService) -> Image:
    """Register an image."""
    return records.add(_image(body, store, records))


@router.get("/{id}", dependencies=[may_read()], response_model=ImageOut)
async def get_image(identity: Id, records: RecordsService) -> Response:
    """Get an image."""
    return await DOCUMENTS.get(records, identity)


@router.put("/{id}", dependencies=only_service("id", "register the image with POST"), response_model=ImageOut)
def put_image(
    identity: Annotated[Identity, Path(alias="id")], body: ImageIn, records: RecordsService, store: StoreService
) -> Image:
    """Register an image with a given id. The request can be repeated: the second time, it changes nothing."""

    def is_same(known: Image) -> bool:
        fields = (known.name, known.arch, known.job_id, known.link_path)
        return fields == (body.name, body.arch, body.job_id, body.link.path if body.link else None)

    return register(records, Image, identity, lambda: _image(body, store, records), is_same)


@router.patch("/{id}", dependencies=[may_write()], response_model=ImageOut)
def update_image(identity: Id, body: ImagePatch, records: RecordsService, store: StoreService) -> Image:
    """Change an image."""
    known = records.get(Image, identity)
    is_new = body.link is not None and not has_link(known, body.link)
    linked = check_image_link(store, body.link) if body.link is not None and is_new else None

    def change(image: Image) -> None:
        if body.nightly is not None:
            _check_nightly(body.nightly, image.customization_digest)
            image.nightly_failures = 0
        if body.link is not None and linked is not None:
            _link(image, body.link, linked)
            image.scrubbed = image.damage = None
        for field, value in body.model_dump(exclude={"link", "metadata"}, exclude_none=True).items():
            setattr(image, field, value)
        image.damage = image.damage or None
        if body.metadata is not None:
            image.labels = _changed(image.labels, body.metadata)

    return records.change(Image, identity, change)


def _image(body: ImageIn, store: StoreService, records: RecordsService) -> Image:
    _check_nightly(body.nightly, body.customization_digest)
    image = Image(**body.model_dump(exclude={"link", "metadata"}), labels=body.metadata)
    if image.customization_digest is not None and not image.nightly:
        image.nightly = records.is_line_nightly(image)
    if body.link is not None:
        _link(image, body.link, check_image_link(store, body.link))
    return image


def _check_nightly(nightly: bool, customization_digest: str | None) -> None:
    """Raises FieldError if an image is marked whose customization cannot be repeated."""
    if nightly and customization_digest is None:
        raise FieldError.of("nightly", "only an image that a script or a playbook made can be made again at night")


def _link(image: Image, link: ArtifactLink, linked: Linked) -> None:
    set_link(image, link)
    image.objects = [ImageObject(path=path) for path in sorted(linked.objects)]
    if linked.inventory is not None:
        packages = linked.inventory.packages
        image.kernels = linked.inventory.kernels
        image.packages = [ImagePackage(**package._asdict()) for package in packages or ()]
        image.package_count = None if packages is None else len(packages)


def _changed(labels: dict[str, str], change: MetadataChange) -> dict[str, str]:
    rest = {key: value for key, value in labels.items() if key != change.key}
    if change.operation == "remove" or change.value is None:
        return rest
    try:
        return check_labels({**rest, change.key: change.value})
    except ValueError as error:
        raise FieldError.of("metadata", str(error)) from None
