"""Permissions: every route without a token, with an invalid token, and as a viewer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ims.api.http.auth import CACHE_SECONDS
from tests.api.conftest import client, mint
from tests.api.wire import JSON, NOBODY, V2, V3, assert_problem
from tests.service import PUBLIC_KEY, Service

OPEN = {"/apis/ims/version", "/apis/ims/healthz/live", "/apis/ims/healthz/ready"}
ALL_VERSIONS = {
    "public-keys": "GET POST DELETE",
    "public-keys/{}": "GET PUT DELETE",
    "recipes": "GET POST DELETE",
    "recipes/{}": "GET PUT PATCH DELETE",
    "images": "GET POST DELETE",
    "images/{}": "GET PUT PATCH DELETE",
    "jobs": "GET POST DELETE",
    "jobs/{}": "GET PATCH DELETE",
}
ONLY_V3 = {
    f"deleted/{kind}{one}": "GET PATCH DELETE" for kind in ("public-keys", "recipes", "images") for one in ("", "/{}")
} | {
    "remote-build-nodes": "GET POST DELETE",
    "remote-build-nodes/{}": "GET DELETE",
    "remote-build-nodes/status": "GET",
    "remote-build-nodes/status/{}": "GET",
}
KNOWN = {
    (method, f"{root}/{path}")
    for root, routes in ((V3, ALL_VERSIONS | ONLY_V3), (V2, ALL_VERSIONS))
    for path, methods in routes.items()
    for method in methods.split()
}

Token = Callable[[Service], str | None]
STRANGERS: dict[str, Token] = {
    "no token": lambda _service: None,
    "no JWT": lambda _service: "nonsense",
    "signed by another": lambda service: mint(service, secret="x" * 64),
    "expired": lambda service: mint(service, expires=-3600),
    "not signed": lambda service: mint(service).rpartition(".")[0] + ".",
}


def routes(api: httpx.Client) -> set[tuple[str, str]]:
    """Returns (method, path) of all routes that the service describes; parameters in paths become {}."""
    answer = api.get("/apis/ims/openapi.json")
    assert answer.status_code == 200
    return {
        (method.upper(), re.sub(r"\{[^}]*\}", "{}", f"/apis/ims{path}"))
        for path, methods in answer.json()["paths"].items()
        for method in methods
    }


def closed(api: httpx.Client) -> list[tuple[str, str]]:
    """Returns the routes that need a token, with ids that do not exist."""
    return [(method, path.replace("{}", str(uuid4()))) for method, path in sorted(routes(api)) if path not in OPEN]


def assert_unknown(answer: httpx.Response) -> None:
    """The answer is 401 and names the way to authenticate."""
    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_routes(api: httpx.Client) -> None:
    """The service describes all routes of the contract."""
    assert routes(api) >= KNOWN | {("GET", path) for path in OPEN}


@pytest.mark.parametrize("path", sorted(OPEN))
@pytest.mark.parametrize("name", STRANGERS)
def test_open(service: Service, name: str, path: str) -> None:
    """Health checks and the version need no token."""
    with client(service, STRANGERS[name](service)) as stranger:
        answer = stranger.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == ({"version"} if path.endswith("/version") else set())


@pytest.mark.parametrize("name", STRANGERS)
def test_stranger(api: httpx.Client, service: Service, name: str) -> None:
    """Every other route answers 401 with a problem to any request."""
    with client(service, STRANGERS[name](service)) as stranger:
        for method, path in closed(api):
            assert_unknown(stranger.request(method, path))
            if method not in ("GET", "DELETE"):
                assert_unknown(stranger.request(method, path, json={"colour": "red"}))
            assert_unknown(stranger.request(method, path, headers={"Authorization": "Basic YWRtaW46eA=="}))


@pytest.mark.parametrize("path", ["/", "/v3", "/v3/nothing", "/v3/recipes/a/b", "/v4/recipes"])
def test_no_such_path(api: httpx.Client, path: str) -> None:
    """An unknown path answers 404 with a problem instead of a page of Airflow."""
    assert_problem(api.get(f"/apis/ims{path}", follow_redirects=True), 404)


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"\xff"])
def test_stranger_is_not_read(api: httpx.Client, nobody: httpx.Client, content: bytes) -> None:
    """A request without a token is refused before its body is parsed."""
    for method, path in closed(api):
        if method not in ("GET", "DELETE"):
            assert_unknown(nobody.request(method, path, content=content, headers=JSON))


def test_stranger_with_cookie(service: Service, nobody: httpx.Client) -> None:
    """The cookie of the UI is accepted as a token if it is valid."""
    nobody.cookies.set("_token", "nonsense")
    assert_unknown(nobody.get(f"{V3}/recipes"))
    nobody.cookies.clear()
    nobody.cookies.set("_token", mint(service, "viewer"))
    assert nobody.get(f"{V3}/recipes").status_code == 200


def test_logout(service: Service) -> None:
    """A token that was in use stops working within seconds after its user logs out."""
    with client(service, mint(service)) as user:
        assert user.get(f"{V3}/recipes").status_code == 200
        user.get("/api/v2/auth/logout")
        deadline = time.monotonic() + CACHE_SECONDS + 2
        while (answer := user.get(f"{V3}/recipes")).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert_unknown(answer)


def test_viewer(api: httpx.Client, viewer: httpx.Client) -> None:
    """A viewer can read everything and gets 403 for all other requests, valid or not."""
    for method, path in closed(api):
        if method == "GET":
            answer = viewer.get(path)
            expected = api.get(path)
            assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
            assert answer.status_code in (200, 404)
        else:
            assert_problem(viewer.request(method, path), 403)
            assert_problem(viewer.request(method, path, json={"colour": "red"}), 403)


BODIES: dict[str, dict[str, Any]] = {
    "public-keys": {"name": "x", "public_key": PUBLIC_KEY},
    "recipes": {"name": "x", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"},
    "images": {"name": "x"},
}


@pytest.mark.parametrize("resource", BODIES)
def test_viewer_changes_nothing(api: httpx.Client, viewer: httpx.Client, resource: str) -> None:
    """Valid requests of a viewer change no records."""
    path = f"{V3}/{resource}"
    record = api.post(path, json=BODIES[resource]).json()
    before = api.get(path).json()
    assert record in before
    assert_problem(viewer.post(path, json=BODIES[resource]), 403)
    assert_problem(viewer.delete(f"{path}/{record['id']}"), 403)
    assert_problem(viewer.delete(path), 403)
    if resource != "public-keys":
        assert_problem(viewer.patch(f"{path}/{record['id']}", json={"arch": "aarch64"}), 403)
    assert api.get(path).json() == before


def test_user(service: Service) -> None:
    """A user who can run the workflow can also create and delete records, as the tasks do."""
    tasks = service.task_client()
    record = tasks.create("images", **BODIES["images"])
    tasks.delete(f"images/{record['id']}")
    assert record not in tasks.get("images")


@pytest.mark.parametrize("path", ["images", "v3/images"])
def test_paths_at_the_root(api: httpx.Client, path: str) -> None:
    """A program that expects IMS at the root does not get the page of Airflow."""
    assert_problem(api.get(f"/{path}"), 404)
    assert api.get(f"/{path}", headers={"Accept": "text/html"}).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["images", "jobs", f"images/{NOBODY}"])
def test_head(api: httpx.Client, path: str) -> None:
    """HEAD returns the status and headers of GET, and the connection stays usable."""
    full, head = api.get(f"{V3}/{path}"), api.head(f"{V3}/{path}")
    assert (head.status_code, head.content) == (full.status_code, b"")
    assert head.headers["content-type"] == full.headers["content-type"]
    assert api.get(f"{V3}/{path}").json() == full.json()
