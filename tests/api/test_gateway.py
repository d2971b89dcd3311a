"""The gateway in front of a running service: what CFS and BOS do from begin to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.api.wire import assert_problem
from tests.flows.waiting import wait_for
from tests.ports import free_ports
from tests.service import PUBLIC_KEY, Service


@pytest.fixture(scope="module")
def cray_ims(service: Service) -> Iterator[httpx.Client]:
    """A client without a token at the gateway, which runs as its supervisor starts it."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    environment = {**os.environ, "IMS_GATEWAY": address, "IMS_HOME": str(service.settings.home)}
    with (
        subprocess.Popen([sys.executable, "-m", "ims.gateway"], env=environment) as process,
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
    ):
        try:
            wait_for(lambda: _answers(client))
            yield client
        finally:
            process.terminate()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_customization_of_cfs(cray_ims: httpx.Client, service: Service) -> None:
    """CFS registers a key, starts a job, and deletes the key; the records show its user, not an administrator."""
    image = service.client.create("images", name=f"x-{uuid4()}")
    assert image["id"] in [found["id"] for found in cray_ims.get("/images").json()]
    key = cray_ims.post("/public-keys", json={"name": "cfs", "public_key": PUBLIC_KEY})
    assert key.status_code == 201, key.text
    fields = {"job_type": "customize", "image_root_archive_name": "x", "ssh_containers": [{"jail": True}]}
    ids = {"artifact_id": image["id"], "public_key_id": key.json()["id"]}
    refused = cray_ims.post("/v3/jobs", json={**fields, **ids})
    assert_problem(refused, 400, "artifact_id")
    assert "has no link" in refused.json()["detail"]
    assert cray_ims.delete(f"/public-keys/{key.json()['id']}").status_code == 204


def test_tag_of_bos(cray_ims: httpx.Client, service: Service) -> None:
    """BOS tags an image."""
    image = service.client.create("images", name=f"x-{uuid4()}")
    change = {"metadata": {"operation": "set", "key": "bos", "value": "1"}}
    assert cray_ims.patch(f"/v3/images/{image['id']}", json=change).json()["metadata"] == {"bos": "1"}


def test_rights(cray_ims: httpx.Client, service: Service) -> None:
    """The gateway gives no way to anything else, and its user owns no field of the service."""
    image = service.client.create("images", name=f"x-{uuid4()}")
    assert cray_ims.delete(f"/v3/images/{image['id']}").status_code == 403
    assert cray_ims.get("/api/v2/dags").status_code == 403
    refused = cray_ims.post("/v3/jobs", json={"job_type": "create", "artifact_id": str(uuid4())})
    assert refused.status_code == 403
    assert service.client.get(f"images/{image['id']}")["id"] == image["id"]
