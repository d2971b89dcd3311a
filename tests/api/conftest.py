"""Clients of the live stack, and the API in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import jwt
import pytest

from tests.service import Service

if TYPE_CHECKING:
    from tests.api.offline import Offline
    from tests.api.offline_airflow import MemoryAirflow


def mint(service: Service, role: str = "admin", *, secret: str = "", expires: int = 3600) -> str:
    """Returns a token of Airflow's simple auth manager, signed with `secret` or the secret of the installation."""
    now = int(time.time())
    claims = {
        "sub": f"test-{role}",
        "role": role,
        "teams": None,
        "aud": "apache-airflow",
        "jti": uuid4().hex,
        "iat": now,
        "nbf": now - 7200,
        "exp": now + expires,
    }
    return jwt.encode(claims, secret or service.credentials.jwt_secret, algorithm="HS512")


def client(service: Service, token: str | None) -> httpx.Client:
    """Returns a client with its own connection: the server closes the connection after an internal error."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.Client(base_url=service.settings.airflow_url, headers=headers, timeout=60)


@pytest.fixture
def api(service: Service) -> Iterator[httpx.Client]:
    """The client of an administrator."""
    with httpx.Client(base_url=service.settings.airflow_url, headers=service.http.headers, timeout=60) as admin:
        yield admin


@pytest.fixture
def tasks(service: Service) -> Iterator[httpx.Client]:
    """The client of the user of the tasks, who sets the fields of the service."""
    with service.task_client().http as worker:
        yield worker


@pytest.fixture
def user(service: Service) -> Iterator[httpx.Client]:
    """The client of a user with the role User."""
    with client(service, mint(service, "user")) as person:
        yield person


@pytest.fixture
def viewer(service: Service) -> Iterator[httpx.Client]:
    """The client of a user with the role Viewer."""
    with client(service, mint(service, "viewer")) as looker:
        yield looker


@pytest.fixture
def nobody(service: Service) -> Iterator[httpx.Client]:
    """A client without a token."""
    with client(service, None) as stranger:
        yield stranger


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> MemoryAirflow:
    """Airflow without a scheduler, for the API in this process."""
    from ims.api.runs.airflow import AirflowApi
    from tests.api.offline import application
    from tests.api.offline_airflow import MemoryAirflow

    made = MemoryAirflow()
    overrides: dict[Any, Any] = application().dependency_overrides
    monkeypatch.setitem(overrides, AirflowApi, lambda: made)
    monkeypatch.setattr("ims.api.jobs.views.recorded_archs", made.recorded_archs)
    monkeypatch.setattr("ims.api.jobs.start.unfinished_runs", made.unfinished_runs)
    return made


@pytest.fixture
def offline(airflow: MemoryAirflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """The API in this process."""
    from tests.api.offline import offline_api

    with offline_api(monkeypatch) as api:
        yield api
