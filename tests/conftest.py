"""Shared by all tests: private settings, the marks that separate unit tests from others, and the running stack.

Nothing here imports the product before a test needs it: unit tests of one folder start within two seconds.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import guard
from tests.running import allowed_networks, remove_foreign_variables
from tests.sharing import lock

if TYPE_CHECKING:
    from ims.stack.credentials import Credentials
    from tests.ceph import CephGateway
    from tests.flows.rpm_repository import PrivateCA
    from tests.scheduling import Scheduling
    from tests.service import Service

STACK_FIXTURES = {"gateway", "service", "site_ca"}


def pytest_configure(config: pytest.Config) -> None:
    """Keep unit tests, and the Airflow that they import, out of the home of the user and of /var/lib/ims."""
    remove_foreign_variables()
    home = Path(tempfile.mkdtemp(prefix="ims-unit-"))
    home.chmod(0o755)  # PostgreSQL does not run as root
    os.environ |= {
        "IMS_HOME": str(home),
        "IMS_ALLOWED_NETWORKS": allowed_networks(),
        "AIRFLOW_HOME": str(home / "airflow"),
    }
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need the stack, according to their fixtures. Sort the tests of a worker of xdist."""
    for item in items:
        if STACK_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("stack")
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tests.scheduling import sort

        sort(items)


def is_unit_test(item: pytest.Item) -> bool:
    """Whether a test must pass for an ordinary user who has nothing but Python."""
    return not any(item.iter_markers("stack")) and not any(item.iter_markers("system"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let tests share a cluster, except those with the mark `alone`."""
    if os.environ.get("IMS_RUNTIME") != "kubernetes":
        return (yield)
    with lock(Path(tempfile.gettempdir()) / "ims-test-cluster.lock", alone=any(item.iter_markers("alone"))):
        return (yield)


@cache
def set_site_ca() -> None:
    """Create a site CA, which builds add to images. An installation has its own."""
    from ims.settings import settings
    from tests.flows.rpm_repository import PrivateCA

    if "IMS_CA_CERTIFICATE" not in os.environ:
        os.environ["IMS_CA_CERTIFICATE"] = str(PrivateCA(Path(os.environ["IMS_HOME"]) / "site-ca").certificate)
        settings.cache_clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Guard the fixtures of unit tests. Skip tests that would start after IMS_TEST_UNTIL, in seconds since 1970."""
    if time.time() > float(os.environ.get("IMS_TEST_UNTIL", "inf")):
        pytest.skip("NOT TESTED: no time is left")
    if any(item.iter_markers("system")):
        set_site_ca()
    with guard.armed() if is_unit_test(item) else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Guard unit tests."""
    with guard.armed() if is_unit_test(item) else nullcontext():
        return (yield)


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change settings for one test."""
    from ims.settings import settings

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"IMS_{name.upper()}", str(value))
        settings.cache_clear()

    yield change
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture(scope="session")
def private_ca(tmp_path_factory: pytest.TempPathFactory) -> PrivateCA:
    """A CA that no program trusts unless a test configures it."""
    from tests.flows.rpm_repository import PrivateCA

    return PrivateCA(tmp_path_factory.mktemp("private-ca"))


@pytest.fixture(scope="session")
def site_ca() -> PrivateCA:
    """The CA that the installation trusts."""
    from tests.installation import installation

    return installation().site_ca


@pytest.fixture(scope="session")
def gateway() -> Iterator[CephGateway | None]:
    """A running Ceph with the buckets, or None if tests use the embedded S3."""
    from ims.settings import settings
    from tests.installation import installation

    ceph = installation().gateway
    with ceph or nullcontext():
        if ceph is not None:
            ceph.make_buckets((settings().recipes_bucket, settings().images_bucket))
        yield ceph


@pytest.fixture(scope="session")
def service(gateway: CephGateway | None) -> Iterator[Service]:
    """The whole stack, started once for all tests that need it."""
    from ims.settings import settings
    from tests.installation import installation
    from tests.service import Service

    credentials = installation().start()
    with cluster(credentials):
        yield Service(settings(), credentials)


def cluster(credentials: Credentials) -> AbstractContextManager[None]:
    """Prepare the namespace of the jobs if they run as pods."""
    from ims.settings import settings

    if settings().runtime != "kubernetes":
        return nullcontext()
    from tests.cluster import prepared_cluster

    return prepared_cluster(settings(), credentials)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Return the scheduling of `make test`."""
    from tests.scheduling import Scheduling

    return Scheduling(config, log)


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remove the installation if there is one; keep its files if a test failed."""
    module = sys.modules.get("tests.installation")
    if module is not None and module.installation.cache_info().currsize:
        module.installation().remove(keep_files=exitstatus != 0)
