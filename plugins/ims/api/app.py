"""The API as one application, mounted below `/apis/ims`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from ims.api import images, jobs, overview, problems, public_keys, recipes, shells
from ims.api.gate import Gate
from ims.api.services import RecordsService
from ims.records.models import Recipe

general = APIRouter(tags=["service"])


@general.get("/version")
def get_version() -> dict[str, str]:
    """The version of the service."""
    return {"version": version("ims")}


@general.get("/healthz/live")
def live() -> dict[str, str]:
    """The process answers."""
    return {}


@general.get("/healthz/ready")
def ready(records: RecordsService) -> dict[str, str]:
    """The records can be read."""
    records.list(Recipe)
    return {}


@cache
def build_app() -> FastAPI:
    """The application; made once, at the first request."""
    app = FastAPI(title="Image Management Service", version=version("ims"), docs_url="/docs", redoc_url=None)
    problems.install(app)
    app.add_middleware(Gate)
    app.include_router(general)
    app.include_router(overview.router)
    v3 = APIRouter(prefix="/v3")
    for resource in (recipes, images, public_keys, jobs, shells):
        v3.include_router(resource.router)
    app.include_router(v3)
    return app
