"""The API as one application, which Airflow mounts at `/apis/ims`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from ims import __version__
from ims.api import openapi
from ims.api.catalog import audit, contents, images, public_keys, recipes
from ims.api.catalog.deletion import delete_routes, tombstone_routes
from ims.api.catalog.listing import by_arch, by_name, by_packages
from ims.api.http import problems
from ims.api.http.auth import AuthMiddleware
from ims.api.http.body import BodyMiddleware
from ims.api.http.head import HeadMiddleware
from ims.api.http.headers import HeadersMiddleware
from ims.api.http.services import RecordsService
from ims.api.http.times import write_times_as_ims
from ims.api.jobs import build_nodes, jobs, logs, shells
from ims.api.retention import maintenance
from ims.api.retention.purge_routes import hard_delete_routes, purge_routes
from ims.api.runs import nights, plans, publications
from ims.records.models import Image, PublicKey, Recipe
from ims.records.selection import Selection

general = APIRouter(tags=["service"])


@general.get("/version")
def get_version() -> dict[str, str]:
    """Get the version of the service."""
    return {"version": __version__}


@general.get("/healthz/live")
def live() -> dict[str, str]:
    """Check that the process answers."""
    return {}


@general.get("/healthz/ready")
def ready(records: RecordsService) -> dict[str, str]:
    """Check that the database of records can be read."""
    records.list(Recipe, Selection(limit=1))
    return {}


def versioned_routes(number: int) -> APIRouter:
    """Returns the routes of a version. DELETE of version 2 purges records; version 3 keeps tombstones."""
    router = APIRouter()
    kinds: tuple[tuple[str, Any, APIRouter, Any, Any], ...] = (
        ("recipes", Recipe, recipes.router, recipes.DeletedRecipeOut, by_arch),
        ("images", Image, images.router, images.DeletedImageOut, by_packages),
        ("public-keys", PublicKey, public_keys.router, public_keys.DeletedPublicKeyOut, by_name),
    )
    for path, kind, common, out, selected in kinds:
        deletes = hard_delete_routes(kind) if number == 2 else delete_routes(kind)
        for routes in (common, deletes):
            router.include_router(routes, prefix=f"/{path}", tags=[path])
        if number == 3:
            for routes in (tombstone_routes(kind, out, selected), purge_routes(kind)):
                router.include_router(routes, prefix=f"/deleted/{path}", tags=["deleted"])
    router.include_router(contents.router, prefix="/images", tags=["images"])
    for resource in (jobs, logs, plans, shells, *((publications, nights) if number == 3 else ())):
        router.include_router(resource.router)
    if number == 3:
        router.include_router(maintenance.router)
        router.include_router(build_nodes.router)
        router.include_router(audit.router)
    return router


def build_app(*pages: APIRouter) -> FastAPI:
    """Returns the application; `pages` are the routes of the Airflow UI's pages."""
    app = FastAPI(title="Image Management Service", version=__version__, docs_url=None, redoc_url=None)
    problems.install(app)
    openapi.install(app)
    # The middleware that is added last sees a request first: the body of a stranger is never read.
    app.add_middleware(BodyMiddleware)
    app.add_middleware(AuthMiddleware)
    app.add_middleware(HeadersMiddleware)
    app.add_middleware(HeadMiddleware)
    app.include_router(general)
    for router in pages:
        app.include_router(router)
    as_ims = [Depends(write_times_as_ims)]
    app.include_router(versioned_routes(3), prefix="/v3")
    app.include_router(versioned_routes(2), prefix="/v2", dependencies=as_ims)
    # Older clients mean version 2 when they name none.
    app.include_router(versioned_routes(2), dependencies=as_ims, include_in_schema=False)
    return app
