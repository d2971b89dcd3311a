"""Requests for the paths of IMS at the root, in front of an application that answers everything with a page."""

from __future__ import annotations

import pytest
from starlette.responses import HTMLResponse
from starlette.testclient import TestClient

from ims.api.http.root import RootGuard
from tests.api.wire import assert_problem

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PATHS = ("/images", "/images/", "/v3/images", "/v2/jobs/1", "/recipes", "/public-keys", "/jobs", "/deleted/images")


@pytest.fixture(params=["", "/below"])
def guarded(request: pytest.FixtureRequest) -> TestClient:
    """Airflow behind the guard, at the root and below another path."""
    return TestClient(
        RootGuard(HTMLResponse("a page")), base_url=f"http://testserver{request.param}", root_path=request.param
    )


@pytest.mark.parametrize("path", PATHS)
def test_program(guarded: TestClient, path: str) -> None:
    """A program gets 404 and learns where IMS is."""
    for headers in ({}, {"Accept": "application/json"}):
        answer = guarded.get(path, headers=headers)
        assert_problem(answer, 404)
        assert "/apis/ims" in answer.json()["detail"]


@pytest.mark.parametrize("path", PATHS)
def test_browser(guarded: TestClient, path: str) -> None:
    """Airflow may have pages with these addresses."""
    assert guarded.get(path, headers=BROWSER).text == "a page"


@pytest.mark.parametrize("path", ["/", "/apis/ims/v3/images", "/api/v2/dags", "/static/x.js", "/imagesx", "/dags"])
def test_other_paths(guarded: TestClient, path: str) -> None:
    """Nothing else is touched."""
    assert guarded.get(path).text == "a page"
