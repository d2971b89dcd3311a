"""The installation that the tests of one process share, with a home, ports and credentials of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from ims.settings import settings
from ims.stack import lifecycle
from ims.stack.credentials import Credentials
from tests import guard
from tests.ceph import ADDRESS as CEPH_ADDRESS
from tests.ceph import READ_ROLE as CEPH_READ_ROLE
from tests.ceph import ROLE as CEPH_ROLE
from tests.ceph import CephGateway
from tests.flows.rpm_repository import PrivateCA
from tests.node import STORAGE_CLASS
from tests.ports import free_ports
from tests.running import allowed_networks, remove_foreign_variables


class Installation:
    """Sets the environment of this process, and so of the stack's, to a new home below /var/lib.

    `gateway` is the Ceph to use for S3 if IMS_TEST_S3 is `ceph`; otherwise None, and S3 is the embedded one.
    """

    def __init__(self) -> None:
        guard.check_stack()
        remove_foreign_variables()
        self.home = Path(tempfile.mkdtemp(prefix="ims-test-", dir="/var/lib"))
        self.home.chmod(0o755)
        self.site_ca = PrivateCA(self.home / "site-ca")
        port, s3_port, internal_port, *_ = free_ports(6)
        os.environ |= {
            "IMS_HOME": str(self.home),
            "IMS_PORT": str(port),
            "IMS_S3_PORT": str(s3_port),
            "IMS_S3_INTERNAL_PORT": str(internal_port),
            "IMS_REPOSITORY_POLL": "1",
            "IMS_SCRUB_MIB": "1000",
            "IMS_NIGHTLY_SCHEDULE": "none",
            "IMS_NIGHTLY_PAUSE_AFTER": "2",
            "IMS_SANDBOX_PROCESSES": "1000",
            "IMS_DISK_WATERMARK_MIB": "256",
            "IMS_CA_CERTIFICATE": str(self.site_ca.certificate),
            "IMS_ALLOWED_NETWORKS": allowed_networks(),
        }
        if os.environ.get("IMS_RUNTIME") == "kubernetes":
            self._use_cluster()
        self.gateway = self._use_ceph(s3_port, internal_port) if os.environ.get("IMS_TEST_S3") == "ceph" else None
        settings.cache_clear()

    def start(self) -> Credentials:
        """Start the stack, or wait until it has started; returns the credentials."""
        return lifecycle.up(settings(), print)

    def remove(self, *, keep_files: bool) -> None:
        """Stop the stack; delete the home unless its files are needed to explain a failure."""
        lifecycle.down(settings())
        if not keep_files:
            shutil.rmtree(self.home, ignore_errors=True)
        elif (self.home / "logs").exists():
            # Workers report to pytest on standard output.
            print(f"\nlogs of the failed run: {self.home}/logs", file=sys.stderr)

    def _use_cluster(self) -> None:
        os.environ |= {
            "IMS_KUBERNETES_CONFIG": str(self.home / "kubeconfig"),
            "IMS_KUBERNETES_NAMESPACE": self.home.name.replace("_", "-") + "-0",
        }
        os.environ.setdefault("IMS_KUBERNETES_STORAGE_CLASS", STORAGE_CLASS)

    def _use_ceph(self, port: int, monitor_port: int) -> CephGateway:
        gateway = CephGateway(self.home / "ceph", self.site_ca.issue(CEPH_ADDRESS), port, monitor_port)
        os.environ |= {
            "IMS_S3_ENDPOINT_URL": gateway.url,
            "IMS_STS_ROLE": CEPH_ROLE,
            "IMS_STS_READ_ROLE": CEPH_READ_ROLE,
            "AWS_ACCESS_KEY_ID": gateway.access_key,
            "AWS_SECRET_ACCESS_KEY": gateway.secret_key,
            "AWS_CA_BUNDLE": str(self.site_ca.certificate),
        }
        return gateway


@cache
def installation() -> Installation:
    """Return the installation of this process. The first call creates it."""
    return Installation()
