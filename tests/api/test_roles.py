"""Who may send which request: every route, as every role."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from ims.api.runs.airflow import AirflowApi
from ims.errors import UnavailableError
from tests.api.offline import TASKS, Offline, application, offline_api
from tests.api.test_routes import ROUTES

OPEN, READ, WRITE, DELETE, SERVICE = "open", "read", "write", "delete", "service"
ALLOWED = {
    "nobody": {OPEN},
    "viewer": {OPEN, READ},
    "writer": {OPEN, READ, WRITE},
    "user": {OPEN, READ, WRITE, DELETE},
    "admin": {OPEN, READ, WRITE, DELETE},
    TASKS: {OPEN, READ, WRITE, DELETE, SERVICE},
}
"""What each role may do. A writer is a user whose role in Airflow may not delete runs."""
KIND = {"GET": READ, "POST": WRITE, "PATCH": WRITE, "DELETE": DELETE}
TABLE: dict[str, dict[str, str]] = {
    "/audit": KIND,
    **{f"/deleted/{kind}": KIND for kind in ("images", "public-keys", "recipes")},
    **{f"/deleted/{kind}/{{id}}": KIND for kind in ("images", "public-keys", "recipes")},
    "/docs": KIND,
    "/docs/{file}": KIND,
    "/healthz/live": {"GET": OPEN},
    "/healthz/ready": {"GET": OPEN},
    "/images": KIND,
    "/images/{id}": {**KIND, "PUT": SERVICE},
    "/images/{id}/diff/{other}": KIND,
    "/images/{id}/packages": KIND,
    "/jobs": KIND,
    "/jobs/{id}": KIND,
    "/jobs/{id}/logs/{step}": KIND,
    "/jobs/{id}/shell": {"GET": READ, "POST": WRITE, "PUT": SERVICE, "DELETE": SERVICE},
    "/jobs/{id}/shell/operation": {"DELETE": SERVICE},
    "/maintenance": {"GET": READ, "POST": DELETE},
    "/nights": KIND,
    "/nights/repositories": KIND,
    "/nights/{id}": KIND,
    "/overview": KIND,
    "/public-keys": KIND,
    "/public-keys/{id}": {**KIND, "PUT": SERVICE},
    "/recipes": KIND,
    "/recipes/{id}": {**KIND, "PUT": SERVICE},
    "/recipes/{id}/image": KIND,
    "/recipes/{id}/plan": KIND,
    "/remote-build-nodes": KIND,
    "/remote-build-nodes/status": KIND,
    "/remote-build-nodes/status/{xname}": KIND,
    "/remote-build-nodes/{xname}": KIND,
    "/version": {"GET": OPEN},
}
API_ROUTES = sorted(name for name in ROUTES if name != "PUT /token")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """The API, behind which Airflow does not answer."""

    def no_airflow() -> AirflowApi:
        raise UnavailableError("Airflow does not answer")

    overrides: dict[Any, Any] = application().dependency_overrides
    monkeypatch.setitem(overrides, AirflowApi, no_airflow)
    monkeypatch.setattr("ims.api.retention.maintenance.unfinished_runs", list)
    monkeypatch.setattr("ims.api.retention.usage.unfinished_runs", list)
    with offline_api(monkeypatch) as api:
        yield api


def needed(name: str) -> str:
    """What a role needs for a route; all versions have the same rules."""
    method, path = name.split()
    return TABLE[re.sub(r"^/v[23](?=/)", "", path)][method]


@pytest.mark.parametrize("name", API_ROUTES)
def test_route(offline: Offline, name: str) -> None:
    """A role that may not send a request gets 401 or 403, and nothing changes; any other role gets another answer."""
    method, path = name.split()
    path = re.sub(r"\{(id|other|step|xname)\}", lambda _match: str(uuid4()), path).replace("{file}", "swagger-ui.css")
    body = None if method in ("GET", "DELETE") else {"colour": "red"}
    before = offline.everything()
    for role, allowed in ALLOWED.items():
        status = offline.request(role, method, path, body).status_code
        if needed(name) in allowed:
            assert status not in (401, 403), role
        else:
            assert status == (401 if role == "nobody" else 403), role
            assert offline.everything() == before
