"""The API as one application, mounted below `/apis/ims`."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI

from ims import __version__
from ims.api import (
    contents,
    deletion,
    images,
    jobs,
    logs,
    maintenance,
    nights,
    openapi,
    overview,
    plans,
    problems,
    public_keys,
    recipes,
    shells,
)
from ims.api.gate import Gate
from ims.api.lists import by_arch, by_name, by_packages
from ims.api.services import RecordsService
from ims.records.models import Image, PublicKey, Recipe
from ims.records.selection import Selection

general = APIRouter(tags=["service"])


@general.get("/version")
def get_version() -> dict[str, str]:
    """The version of the service."""
    return {"version": __version__}


@general.get("/healthz/live")
def live() -> dict[str, str]:
    """The process answers."""
    return {}


@general.get("/healthz/ready")
def ready(records: RecordsService) -> dict[str, str]:
    """The records can be read."""
    records.list(Recipe, Selection(limit=1))
    return {}


def versioned_routes(number: int) -> APIRouter:
    """All resources. What v2 deletes is gone; v3 keeps tombstones."""
    router = APIRouter()
    kinds: tuple[tuple[str, Any, APIRouter, Any, Any], ...] = (
        ("recipes", Recipe, recipes.router, recipes.DeletedRecipeOut, by_arch),
        ("images", Image, images.router, images.DeletedImageOut, by_packages),
        ("public-keys", PublicKey, public_keys.router, public_keys.DeletedPublicKeyOut, by_name),
    )
    for path, kind, common, out, selected in kinds:
        deletes = deletion.hard(kind) if number == 2 else deletion.soft(kind)
        for routes in (common, deletes):
            router.include_router(routes, prefix=f"/{path}", tags=[path])
        if number == 3:
            router.include_router(deletion.deleted(path, kind, out, selected))
    router.include_router(contents.router, prefix="/images", tags=["images"])
    for resource in (jobs, logs, plans, shells, *((nights,) if number == 3 else ())):
        router.include_router(resource.router)
    if number == 3:
        router.include_router(maintenance.router)
    return router


@cache
def build_app() -> FastAPI:
    """The application; made once, at the first request."""
    app = FastAPI(title="Image Management Service", version=__version__, docs_url="/docs", redoc_url=None)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(Gate)
    app.include_router(general)
    app.include_router(overview.router)
    for number in (3, 2):
        app.include_router(versioned_routes(number), prefix=f"/v{number}")
    # Older clients say no version and mean 2.
    app.include_router(versioned_routes(2), include_in_schema=False)
    return app
