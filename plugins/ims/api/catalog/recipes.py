"""`/recipes`: the recipes that images are built from."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import AfterValidator, Field, model_validator

from ims.api.catalog.documents import Documents
from ims.api.catalog.images import FailedNights, ImageOut
from ims.api.catalog.links import check_recipe_link, has_link, set_link
from ims.api.catalog.listing import by_arch, page
from ims.api.catalog.registration import register
from ims.api.http.auth import may_read, may_write, only_service
from ims.api.http.lists import PAGE
from ims.api.http.owners import SERVICE
from ims.api.http.schemas import Arch, ArtifactLink, Id, LinkOut, Name, PatchBody, RecordOut, RequestBody, Text
from ims.api.http.services import RecordsService, StoreService
from ims.errors import InputError
from ims.params import MAX_PROFILES, Identity, Profile, boot_files
from ims.params.boot_files import FileName, FileNameOrEmpty
from ims.recipes.secrets import has_login, secret_name
from ims.records.models import Image, Recipe
from ims.records.selection import Selection

router = APIRouter()
Selected = Annotated[Selection, Depends(by_arch)]

# The distributions of IMS, and the families that kiwi-ng can build here.
Distribution = Literal[
    "sles12",
    "sles15",
    "centos7",
    "debian12",
    "debian13",
    "ubuntu2204",
    "ubuntu2404",
    "opensuse-leap15",
    "opensuse-tumbleweed",
    "rocky8",
    "rocky9",
    "rocky10",
    "fedora",
]


def _without_secrets(value: str) -> str:
    """Check a value: every user may read it, so it must not contain a password."""
    try:
        secret_name(value)
    except InputError as error:
        raise ValueError(str(error)) from None
    if has_login(value):
        raise ValueError("the value contains a URL with a password: store the password as a secret, and refer to it")
    return value


class TemplateVariable(RequestBody):
    """A variable of the templates of a recipe. The value `secret:NAME` refers to a secret of the site."""

    key: Annotated[Text, Field(min_length=1, max_length=255)]
    value: Annotated[Text, Field(max_length=65536), AfterValidator(_without_secrets)]


class RecipeIn(RequestBody):
    """A new recipe. Only the service sets `nightly_failures`."""

    name: Name
    recipe_type: Literal["kiwi-ng", "packer"]
    linux_distribution: Distribution
    link: ArtifactLink | None = None
    template_dictionary: list[TemplateVariable] = Field(default_factory=list, max_length=1000)
    require_dkms: bool = True
    arch: Arch = "x86_64"
    nightly: bool = False
    profiles: list[Profile] = Field(default_factory=list, max_length=MAX_PROFILES)
    kernel_file_name: FileName | None = None
    initrd_file_name: FileName | None = None
    kernel_parameters_file_name: FileName | None = None
    nightly_failures: Annotated[FailedNights, SERVICE] = 0

    @model_validator(mode="before")
    @classmethod
    def _empty_names_are_defaults(cls, fields: Any) -> Any:
        return boot_files.without_empty(fields)


class RecipePatch(PatchBody):
    """The fields of a recipe that can be changed. A new `template_dictionary` replaces the old one.

    Setting `nightly` resets the count of failed nights. An empty name of a file stands for the default.
    """

    name: Name | None = None
    link: ArtifactLink | None = None
    template_dictionary: Annotated[list[TemplateVariable], Field(max_length=1000)] | None = None
    require_dkms: bool | None = None
    arch: Arch | None = None
    nightly: bool | None = None
    profiles: Annotated[list[Profile], Field(max_length=MAX_PROFILES)] | None = None
    kernel_file_name: FileNameOrEmpty | None = None
    initrd_file_name: FileNameOrEmpty | None = None
    kernel_parameters_file_name: FileNameOrEmpty | None = None
    nightly_failures: Annotated[FailedNights | None, SERVICE] = None


class RecipeOut(RecordOut):
    """A recipe."""

    recipe_type: str
    linux_distribution: str
    link: LinkOut | None
    template_dictionary: list[dict[str, str]]
    require_dkms: bool
    arch: str
    nightly: bool
    profiles: list[str] = Field(
        description="Profiles of the description that jobs build. Empty: those that the description imports."
    )
    kernel_file_name: str | None = Field(description="Names of files in /boot that jobs look up. null: the default.")
    initrd_file_name: str | None
    kernel_parameters_file_name: str | None
    nightly_failures: int


class DeletedRecipeOut(RecipeOut):
    """A deleted recipe."""

    deleted: datetime


DOCUMENTS = Documents(Recipe, RecipeOut)


@router.get("", dependencies=[may_read()], response_model=list[RecipeOut], responses=PAGE)
async def list_recipes(request: Request, records: RecordsService, selection: Selected) -> Response:
    """List recipes, oldest first."""
    return await page(request, records, DOCUMENTS, selection)


@router.post("", status_code=201, dependencies=[may_write()], response_model=RecipeOut)
def create_recipe(body: RecipeIn, records: RecordsService, store: StoreService) -> Recipe:
    """Register a recipe."""
    return records.add(_recipe(body, store))


@router.get("/{id}", dependencies=[may_read()], response_model=RecipeOut)
async def get_recipe(identity: Id, records: RecordsService) -> Response:
    """Get a recipe."""
    return await DOCUMENTS.get(records, identity)


@router.put("/{id}", dependencies=only_service("id", "register the recipe with POST"), response_model=RecipeOut)
def put_recipe(
    identity: Annotated[Identity, Path(alias="id")], body: RecipeIn, records: RecordsService, store: StoreService
) -> Recipe:
    """Register a recipe with a given id. The request can be repeated: the second time, it changes nothing."""

    def is_same(known: Recipe) -> bool:
        fields = ("name", "recipe_type", "linux_distribution", "arch")
        is_alike = all(getattr(known, field) == getattr(body, field) for field in fields)
        return is_alike and known.link_path == (body.link.path if body.link else None)

    return register(records, Recipe, identity, lambda: _recipe(body, store), is_same)


@router.get("/{id}/image", dependencies=[may_read()], response_model=ImageOut)
def get_newest_image(identity: Id, records: RecordsService) -> Image:
    """Get the newest image that was built from the recipe or from another recipe of its name and architecture."""
    return records.newest_image(records.get(Recipe, identity))


@router.patch("/{id}", dependencies=[may_write()], response_model=RecipeOut)
def update_recipe(identity: Id, body: RecipePatch, records: RecordsService, store: StoreService) -> Recipe:
    """Change a recipe."""
    known = records.get(Recipe, identity)
    if body.link is not None and not has_link(known, body.link):
        check_recipe_link(store, body.link)

    def change(recipe: Recipe) -> None:
        if body.link is not None:
            set_link(recipe, body.link)
        if body.nightly is not None:
            recipe.nightly_failures = 0
        for field, value in body.model_dump(exclude={"link"}, exclude_none=True).items():
            setattr(recipe, field, None if field in boot_files.FIELDS and value == "" else value)

    return records.change(Recipe, identity, change)


def _recipe(body: RecipeIn, store: StoreService) -> Recipe:
    recipe = Recipe(**body.model_dump(exclude={"link"}))
    if body.link is not None:
        check_recipe_link(store, body.link)
        set_link(recipe, body.link)
    return recipe
