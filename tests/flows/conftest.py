"""What flows are run on: RPM repositories over http and https, and a look at what a job leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import PrivateCA, RepositoryServer, build_repository
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
    with RepositoryServer(repository, site_ca.issue("127.0.0.1")) as server:
        yield server


@pytest.fixture
def leftovers(service: Service) -> Leftovers:
    """What is on the machine and in S3 before a job, to compare with after it."""
    return Leftovers(service)
