"""Fixtures of the flows: RPM repositories over http and https, images, keys, and what jobs leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.debian import DebianImage, build
from tests.flows.leftovers import Leftovers
from tests.flows.pods import Cluster
from tests.flows.rpm_repository import PrivateCA, RepositoryServer, address, build_repository
from tests.flows.shells import Key, make_key
from tests.flows.small_image import small_image
from tests.service import Service

RECIPES = Path(__file__).parent / "recipes"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an RPM repository."""
    return build_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def http_server(repository: Path) -> Iterator[RepositoryServer]:
    """The repository over http."""
    with RepositoryServer(repository) as server:
        yield server


@pytest.fixture
def https_server(repository: Path, site_ca: PrivateCA) -> Iterator[RepositoryServer]:
    """The repository over https, with a certificate of the site's CA."""
    with RepositoryServer(repository, site_ca.issue(address())) as server:
        yield server


@pytest.fixture
def cluster(service: Service) -> Cluster:
    """The cluster of KUBECONFIG."""
    if service.settings.runtime != "kubernetes":
        pytest.skip("needs make test-kubernetes or make test-node")
    return Cluster(service.settings.kubernetes_namespace)


@pytest.fixture
def leftovers(service: Service) -> Leftovers:
    """The state of the machine and of S3 before a job, to compare with the state after it."""
    return Leftovers(service)


@pytest.fixture(scope="session")
def image(service: Service, repository: Path) -> dict[str, Any]:
    """An image to customize."""
    with RepositoryServer(repository) as server:
        recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=server.url)
        job = service.wait(service.create(recipe["id"])["id"])
    assert job["status"] == "success", job["reason"]
    return dict(service.client.get(f"images/{job['resultant_image_id']}"))


@pytest.fixture(scope="session")
def key(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Key:
    """The key of a user."""
    return make_key(service, tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="session")
def small(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An image of 2 MB to customize, which needs no build."""
    return small_image(service, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def debian(service: Service, tmp_path_factory: pytest.TempPathFactory) -> DebianImage:
    """The image of the shipped Debian recipe."""
    return build(service, tmp_path_factory.mktemp("debian"))
