"""Every route of the applications, as they are put together: what it asks of its caller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from ims.api import app, sts
from ims.api.http import auth
from ims.api.http.auth import PUBLIC_PATHS
from ims.ui import api_docs, images

READING = ("GET", "HEAD")
DELETING = {"POST /v3/maintenance"}
WITHOUT_RECORDS = {"PUT /token"}  # gives out credentials: they can do what the caller may


def api_routes(application: FastAPI) -> Iterator[APIRoute]:
    """The routes, however they are nested."""
    for route in application.routes:
        if isinstance(route, APIRoute):
            yield route


ROUTES = {
    f"{method} {route.path}": route
    for application in (app.build_app(images.router, api_docs.router), sts.build_app())
    for route in api_routes(application)
    for method in sorted(route.methods)
}


def called(dependant: Dependant) -> set[object]:
    """Everything that is called before the route is."""
    return {dependant.call}.union(*(called(inner) for inner in dependant.dependencies))


def test_routes_are_found() -> None:
    """The tests below look at something."""
    assert len(ROUTES) > 80
    assert {"DELETE /v3/deleted/images/{id}", "POST /jobs", "GET /v3/jobs/{id}/logs/{step}"} <= set(ROUTES)


@pytest.mark.parametrize("name", ROUTES)
def test_permission(name: str) -> None:
    """Reading asks for the permission to read, everything else for one to write or delete; nothing asks for none."""
    method, path = name.split()
    asked = called(ROUTES[name].dependant) & {auth.READ, auth.WRITE, auth.DELETE}
    if path in PUBLIC_PATHS:
        assert asked == set()
    elif method in READING or name in WITHOUT_RECORDS:
        assert asked == {auth.READ}
    elif name in DELETING or (method == "DELETE" and not path.endswith("/shell")):
        assert asked == {auth.DELETE}
    else:
        assert asked == {auth.WRITE}
