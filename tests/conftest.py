"""An installation of its own for every test run: home, ports and credentials apart from any other on this machine.

The environment is set before anything reads the settings, so tests and the stack's processes see the same.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.ceph import ADDRESS as CEPH_ADDRESS
from tests.ceph import ROLE as CEPH_ROLE
from tests.ceph import CephGateway
from tests.flows.rpm_repository import PrivateCA
from tests.node import STORAGE_CLASS


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, low enough for what is derived from them (10000 more is used too).

    Runs that begin at the same time, of this suite's two processes too, look in different places.
    """
    ports: list[int] = []
    for port in range(20000 + os.getpid() * 10 % 10000, 45000):
        with socket.socket() as probe, socket.socket() as higher:
            try:
                probe.bind(("127.0.0.1", port))
                higher.bind(("127.0.0.1", port + 10000))
            except OSError:
                ports.clear()
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free ports")


HOME = Path(tempfile.mkdtemp(prefix="ims-test-", dir="/var/lib"))
HOME.chmod(0o755)
API_PORT, S3_PORT, *_INTERNAL = free_ports(6)
os.environ |= {
    "IMS_HOME": str(HOME),
    "IMS_PORT": str(API_PORT),
    "IMS_S3_PORT": str(S3_PORT),
    "IMS_S3_INTERNAL_PORT": str(_INTERNAL[0]),
    "IMS_REPOSITORY_POLL": "1",
    "IMS_NIGHTLY_SCHEDULE": "none",
    "IMS_NIGHTLY_PAUSE_AFTER": "2",
}
if os.environ.get("IMS_RUNTIME") == "kubernetes":
    os.environ |= {
        "IMS_KUBERNETES_CONFIG": str(HOME / "kubeconfig"),
        "IMS_KUBERNETES_NAMESPACE": HOME.name.replace("_", "-") + "-0",
    }
    os.environ.setdefault("IMS_KUBERNETES_STORAGE_CLASS", STORAGE_CLASS)
for name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW_"))]:
    del os.environ[name]

# The site's own CA: what the tests serve over https has a certificate of it.
SITE_CA = PrivateCA(HOME / "site-ca")
os.environ["IMS_CA_CERTIFICATE"] = str(SITE_CA.certificate)

# IMS_TEST_S3=ceph: the site's own S3, over https, in place of the embedded one.
GATEWAY: CephGateway | None = None
if os.environ.get("IMS_TEST_S3") == "ceph":
    GATEWAY = CephGateway(HOME / "ceph", SITE_CA.issue(CEPH_ADDRESS), S3_PORT, _INTERNAL[0])
    os.environ |= {
        "IMS_S3_ENDPOINT_URL": GATEWAY.url,
        "IMS_STS_ROLE": CEPH_ROLE,
        "AWS_ACCESS_KEY_ID": GATEWAY.access_key,
        "AWS_SECRET_ACCESS_KEY": GATEWAY.secret_key,
        "AWS_CA_BUNDLE": str(SITE_CA.certificate),
    }

# Files that need a running service, in two parts: the first and all other files take about as long as the second.
SERVED = {
    "first": (
        "tests/api/",
        "tests/cli/",
        *(f"tests/flows/test_{name}" for name in ("docs", "interrupted", "maintenance", "nightly")),
        "tests/steps/test_fetch_image",
        "tests/storage/",
    ),
    "second": ("tests/flows/",),
}

from ims.settings import settings  # noqa: E402  (reads the environment set above)
from ims.stack import lifecycle  # noqa: E402
from tests.service import Service  # noqa: E402

if settings().runtime == "kubernetes":
    from tests.cluster import prepared_cluster


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change settings for one test."""

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"IMS_{name.upper()}", str(value))
        settings.cache_clear()

    yield change
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture(scope="session")
def site_ca() -> PrivateCA:
    """The CA that the installation trusts."""
    return SITE_CA


@pytest.fixture(scope="session")
def gateway() -> Iterator[CephGateway | None]:
    """Ceph, with the buckets; None where S3 is the embedded one."""
    with GATEWAY or nullcontext():
        if GATEWAY is not None:
            GATEWAY.make_buckets((settings().recipes_bucket, settings().images_bucket))
        yield GATEWAY


@pytest.fixture(scope="session")
def service(gateway: CephGateway | None) -> Iterator[Service]:
    """The whole stack, started once for all tests that need it."""
    credentials = lifecycle.up(settings(), print)
    with prepared_cluster(settings(), credentials) if settings().runtime == "kubernetes" else nullcontext():
        yield Service(settings(), credentials)
    lifecycle.down(settings())


def pytest_runtest_setup() -> None:
    """IMS_TEST_UNTIL, in seconds of the clock: tests that would begin later are skipped."""
    if time.time() > float(os.environ.get("IMS_TEST_UNTIL", "inf")):
        pytest.skip("no time is left")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Which of two processes runs what: each of the two groups that need a running service is one piece.

    Of the rest every file is.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((part for part, names in SERVED.items() if path.startswith(names)), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Of `make test`."""
    return Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the installation's files for a look where a test failed."""
    lifecycle.down(settings())
    if exitstatus == 0:
        shutil.rmtree(HOME, ignore_errors=True)
    elif (HOME / "logs").exists():
        # Not to standard output: pytest's processes keep that for themselves.
        print(f"\nlogs of the failed run: {HOME}/logs", file=sys.stderr)
