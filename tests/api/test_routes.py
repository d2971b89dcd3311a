"""The permission that each route of the applications requires."""

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
AUDITING = {"GET /v3/audit"}
WITHOUT_RECORDS = {"PUT /token"}  # the credentials have the permissions of the caller


def api_routes(application: FastAPI) -> Iterator[APIRoute]:
    """Yields the routes of an application."""
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
    """Returns all dependencies of a route."""
    return {dependant.call}.union(*(called(inner) for inner in dependant.dependencies))


def test_routes_are_found() -> None:
    """The tests below have routes to check."""
    assert len(ROUTES) > 80
    assert {"DELETE /v3/deleted/images/{id}", "POST /jobs", "GET /v3/jobs/{id}/logs/{step}"} <= set(ROUTES)


@pytest.mark.parametrize("name", ROUTES)
def test_permission(name: str) -> None:
    """Reading requires the permission to read, all other routes the permission to write or delete."""
    method, path = name.split()
    asked = called(ROUTES[name].dependant) & {auth.READ, auth.WRITE, auth.DELETE, auth.AUDIT}
    if path in PUBLIC_PATHS:
        assert asked == set()
    elif name.replace("HEAD ", "GET ") in AUDITING:
        assert asked == {auth.AUDIT}
    elif method in READING or name in WITHOUT_RECORDS:
        assert asked == {auth.READ}
    elif name in DELETING or (method == "DELETE" and "/shell" not in path):
        assert asked == {auth.DELETE}
    else:
        assert asked == {auth.WRITE}
