"""Outages of one minute of the S3 of the site: the job waits and succeeds."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.ceph import CephGateway
from tests.flows.conftest import RECIPES
from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.shells import Key, customize, ssh
from tests.flows.waiting import wait_for
from tests.service import Service

OUTAGE = 60


@pytest.fixture
def away(gateway: CephGateway | None) -> CephGateway:
    """The gateway, which tests can stop. test_interrupted.py stops the embedded S3."""
    if gateway is None:
        pytest.skip("needs make test-ceph")
    return gateway


def outage(gateway: CephGateway) -> None:
    """Stop the gateway for a minute."""
    gateway.stop()
    time.sleep(OUTAGE)
    gateway.start()


def succeed(service: Service, job: dict[str, Any], leftovers: Leftovers) -> None:
    """Assert that the job succeeds and leaves exactly its image."""
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    leftovers.assert_only_images([ended])


@pytest.mark.parametrize("status", ["fetching_recipe", "packaging_artifacts"])
def test_create(
    service: Service, http_server: RepositoryServer, leftovers: Leftovers, away: CephGateway, status: str
) -> None:
    """The outage begins when the recipe must be fetched, or when the artifacts must be uploaded."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    job = service.create(recipe["id"])
    if status == "packaging_artifacts":
        wait_for(lambda: service.client.get(f"jobs/{job['id']}")["status"] == status)
    outage(away)
    succeed(service, job, leftovers)


def test_customize(service: Service, small: dict[str, Any], key: Key, leftovers: Leftovers, away: CephGateway) -> None:
    """The outage begins when the shell is finished and the artifacts must be uploaded."""
    job = customize(service, small, key, jail=True)
    ssh(job, key, "echo changed > /etc/motd; touch /tmp/complete")
    outage(away)
    succeed(service, job, leftovers)
