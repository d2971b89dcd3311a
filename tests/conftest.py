"""An installation of its own for every test run: home, ports and credentials apart from any other on this machine.

The environment is set before anything reads the settings, so tests and the stack's processes see the same.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.flows.rpm_repository import PrivateCA


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, low enough for what is derived from them (10000 more is used too)."""
    ports: list[int] = []
    for port in range(20000 + os.getpid() % 10000, 45000):
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
}
if os.environ.get("IMS_RUNTIME") == "kubernetes":
    os.environ |= {
        "IMS_KUBERNETES_CONFIG": str(HOME / "kubeconfig"),
        "IMS_KUBERNETES_NAMESPACE": HOME.name.replace("_", "-") + "-0",
        "IMS_KUBERNETES_STORAGE_CLASS": "ims-test",
    }
for name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW_"))]:
    del os.environ[name]

# The site's own CA: what the tests serve over https has a certificate of it.
SITE_CA = PrivateCA(HOME / "site-ca")
os.environ["IMS_CA_CERTIFICATE"] = str(SITE_CA.certificate)

from ims.settings import settings  # noqa: E402  (reads the environment set above)
from ims.stack import lifecycle  # noqa: E402
from tests.service import Service  # noqa: E402

if settings().runtime == "kubernetes":
    from tests.cluster import prepared_cluster


@pytest.fixture(scope="session")
def site_ca() -> PrivateCA:
    """The CA that the installation trusts."""
    return SITE_CA


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The whole stack, started once for all tests that need it."""
    credentials = lifecycle.up(settings(), print)
    with prepared_cluster(settings(), credentials) if settings().runtime == "kubernetes" else nullcontext():
        yield Service(settings(), credentials)
    lifecycle.down(settings())


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the installation's files for a look where a test failed."""
    lifecycle.down(settings())
    if exitstatus == 0:
        shutil.rmtree(HOME, ignore_errors=True)
    else:
        print(f"\nlogs of the failed run: {HOME}/logs")
