"""The OpenAPI document: what FastAPI derives from the routes, and what all routes have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ims.api.http.auth import PUBLIC_PATHS
from ims.api.jobs.schemas import CreateJobIn, CustomizeJobIn

DESCRIPTION = """\
The API is version 3 of IMS and, below `/v2`, version 2. A path without a version means version 2.
Times are ISO 8601 with a time zone; in version 2, `created` is in UTC and has none, as in IMS.
Lists are complete unless `limit` is given; then the header `Link` names the next page. Errors are
`application/problem+json`.

Send the token of Airflow's `POST /auth/token` as `Authorization: Bearer …`.
"""
TAGS = {
    "service": "Version and health of the service.",
    "recipes": "Recipe archives in S3 with their template variables, and plans of what a build would change.",
    "images": "Images with their artifacts, packages, files and differences.",
    "public-keys": "SSH public keys that can log in to the shells of jobs.",
    "jobs": "Builds and customizations of images with their steps, logs and shells.",
    "remote-build-nodes": "The remote build nodes of IMS, of which this service has none.",
    "nights": "Scheduled builds of all nightly recipes.",
    "deleted": "Tombstones of deleted records: list, undelete or purge them.",
    "audit": "Who changed what.",
    "maintenance": "The clean-up of records and objects.",
}
_EXAMPLE_ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
_EXAMPLES: dict[str, dict[str, Any]] = {
    "CreateJobIn": {
        "job_type": "create",
        "image_root_archive_name": "site",
        "artifact_id": _EXAMPLE_ID,
        "public_key_id": _EXAMPLE_ID,
    },
    "CustomizeJobIn": {
        "job_type": "customize",
        "image_root_archive_name": "site-customized",
        "artifact_id": _EXAMPLE_ID,
        "public_key_id": _EXAMPLE_ID,
        "script": "#!/bin/sh\nzypper --non-interactive install vim\n",
    },
    "RecipeIn": {
        "name": "site",
        "recipe_type": "kiwi-ng",
        "linux_distribution": "sles15",
        "link": {"type": "s3", "path": f"s3://ims/recipes/{_EXAMPLE_ID}/recipe.tar.gz"},
        "template_dictionary": [{"key": "REPOSITORY", "value": "https://repo.example.com/sles15"}],
    },
    "ImageIn": {
        "name": "site",
        "link": {"type": "s3", "path": f"s3://boot-images/{_EXAMPLE_ID}/manifest.yaml"},
        "metadata": {"owner": "ada"},
    },
    "MaintenanceIn": {"dry_run": True},
}
_REFERENCE = "#/components/schemas/{model}"
_MODELS: tuple[type[BaseModel], ...] = (CreateJobIn, CustomizeJobIn)
_METHODS_WITH_BODY = ("post", "put", "patch")


class ProblemOut(BaseModel):
    """An error. If fields are invalid, `errors` has the messages of each."""

    status: int
    title: str
    detail: str
    errors: dict[str, list[str]] | None = None


def install(app: FastAPI) -> None:
    """Makes this module describe `app`, once."""
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(describe(app))
        return made

    openapi: Callable[[], dict[str, Any]] = document
    app.__dict__["openapi"] = openapi


def describe(app: FastAPI) -> dict[str, Any]:
    """Returns the document."""
    tags = [{"name": name, "description": description} for name, description in TAGS.items()]
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=tags)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas.update(_jobs())
    for name, example in _EXAMPLES.items():
        schemas[name]["examples"] = [example]
    schemas["Problem"] = ProblemOut.model_json_schema()
    # A member without a value is left out.
    schemas["Problem"]["properties"]["errors"] = schemas["Problem"]["properties"]["errors"]["anyOf"][0]
    schemas["Problem"]["additionalProperties"] = False
    token = {"type": "http", "scheme": "bearer", "description": "from `POST /auth/token`"}
    document["components"]["securitySchemes"] = {"token": token}
    for path, method, operation in operations(document):
        _complete(path, method, operation)
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields (path, method, operation) of all operations in the document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _jobs() -> dict[str, Any]:
    """Returns the schemas of the bodies of `POST /jobs`, which the route validates itself."""
    _, definitions = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REFERENCE)
    choices = [{"$ref": _REFERENCE.format(model=model.__name__)} for model in _MODELS]
    return {**definitions["$defs"], "JobIn": {"title": "JobIn", "oneOf": choices}}


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    if path.endswith("/jobs") and method == "post":
        operation["requestBody"]["content"]["application/json"]["schema"] = {"$ref": _REFERENCE.format(model="JobIn")}
    for parameter in operation.get("parameters", ()):
        _without_null(parameter)
    if path not in PUBLIC_PATHS:
        operation["security"] = [{"token": []}]
    answers = {code: answer for code, answer in operation["responses"].items() if code != "422"}
    for status in sorted(_errors(path, method, operation)):
        answers[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
        }
    operation["responses"] = answers


def _without_null(parameter: dict[str, Any]) -> None:
    """Removes null from the schema: an optional parameter is left out of a query, never null."""
    schema = parameter["schema"]
    choices = [choice for choice in schema.pop("anyOf", ()) if choice != {"type": "null"}]
    for choice in choices:
        schema.update(choice)
    schema.pop("description", None)


def _errors(path: str, method: str, operation: dict[str, Any]) -> set[int]:
    """Returns the statuses of the errors that an operation can answer with."""
    if path in PUBLIC_PATHS:
        return {503} if path.endswith("ready") else set()
    found = {400, 401, 403, 413, 415, 503}
    if "{" in path:
        found.add(404)
    if method in _METHODS_WITH_BODY or any(item["in"] != "path" for item in operation.get("parameters", ())):
        found.add(422)
    keeps_tombstone = path.startswith("/v3/") and not path.startswith("/v3/deleted/") and "/jobs" not in path
    if method in ("put", "patch") or ("/jobs" in path and method == "post"):
        found.add(409)
    if method == "delete" and not keeps_tombstone:
        found.add(409)
    return found
