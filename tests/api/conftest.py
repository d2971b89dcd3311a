"""Clients of the live stack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

import httpx
import jwt
import pytest

from tests.service import Service


def mint(service: Service, role: str = "admin", *, secret: str = "", expires: int = 3600) -> str:
    """A token of Airflow's simple auth manager for a user of `role`, signed with `secret` or the installation's own."""
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
    """A client of its own: after a defect the server closes the connection, which must not fail the next test."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.Client(base_url=service.settings.airflow_url, headers=headers, timeout=60)


@pytest.fixture
def api(service: Service) -> Iterator[httpx.Client]:
    """The administrator."""
    with httpx.Client(base_url=service.settings.airflow_url, headers=service.http.headers, timeout=60) as admin:
        yield admin


@pytest.fixture
def viewer(service: Service) -> Iterator[httpx.Client]:
    """Someone who may look."""
    with client(service, mint(service, "viewer")) as looker:
        yield looker


@pytest.fixture
def nobody(service: Service) -> Iterator[httpx.Client]:
    """Someone without a token."""
    with client(service, None) as stranger:
        yield stranger
