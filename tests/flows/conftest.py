"""Fixtures of the flows: RPM repositories over http and https, images, keys, and what jobs leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ims.errors import MissingError
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


class Kept:
    """Records that the tests of a worker share. Tests of the API delete all records; then they are made again."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._found: dict[str, Any] = {}
        self._paths: dict[str, str] = {}

    def get(self, name: str, path: Callable[[Any], str], make: Callable[[], Any]) -> Any:
        """What `make` returns. `path` is the one that the API has of its record."""
        try:
            self._service.client.get(self._paths[name])
        except (KeyError, MissingError):
            self._found[name] = make()
            self._paths[name] = path(self._found[name])
        return self._found[name]


@pytest.fixture(scope="session")
def kept_records(service: Service) -> Kept:
    """The records that tests share."""
    return Kept(service)


@pytest.fixture
def image(service: Service, repository: Path, kept_records: Kept) -> dict[str, Any]:
    """An image to customize."""

    def make() -> dict[str, Any]:
        with RepositoryServer(repository) as server:
            recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=server.url)
            job = service.wait(service.create(recipe["id"])["id"])
        assert job["status"] == "success", job["reason"]
        return dict(service.client.get(f"images/{job['resultant_image_id']}"))

    return dict(kept_records.get("image", lambda image: f"images/{image['id']}", make))


@pytest.fixture
def key(service: Service, kept_records: Kept, tmp_path_factory: pytest.TempPathFactory) -> Key:
    """The key of a user."""

    def make() -> Key:
        return make_key(service, tmp_path_factory.mktemp("key"))

    found: Key = kept_records.get("key", lambda key: f"public-keys/{key.identity}", make)
    return found


@pytest.fixture
def small(service: Service, kept_records: Kept, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An image of 2 MB to customize, which needs no build."""

    def make() -> dict[str, Any]:
        return small_image(service, tmp_path_factory.mktemp("small"))

    return dict(kept_records.get("small", lambda image: f"images/{image['id']}", make))


@pytest.fixture(scope="session")
def debian(service: Service, tmp_path_factory: pytest.TempPathFactory) -> DebianImage:
    """The image of the shipped Debian recipe."""
    return build(service, tmp_path_factory.mktemp("debian"))
