"""A Kubernetes of one node on this machine, for tests: the real programs, in namespaces of their own.

`python -m tests.node build` builds what is missing. `python -m tests.node run COMMAND…` does the same, starts the node,
runs the command in it and stops the node. `python -m tests.node exec COMMAND…` runs another command in a node that is
up. Commands run in the namespaces of the node: they have a KUBECONFIG of its administrator and can reach only the files
of the machine; pods reach them at `ADDRESS`.

There is no cluster DNS, no registry and no provisioner of volumes. Debian packages come through a mirror at `ADDRESS`.
"""

import os
from pathlib import Path

CACHE = Path(os.environ.get("IMS_TEST_CACHE", "/var/cache/ims-test"))
"""The folder of everything that is built once and kept."""
PROGRAMS = CACHE / "kubernetes" / "bin"
STATE = CACHE / "node"
"""The files of a node that is up. While the file `held/<daemon>` exists, the daemon is stopped."""
ADDRESS = "10.99.0.1"
NAME = "ims-node"
MIRROR_PORT = 3142
STORAGE_CLASS = "ims-test"
"""The storage class of the volumes that tests create themselves: see `tests.cluster`."""
UNAVAILABLE = os.EX_UNAVAILABLE
"""The exit code of the commands if this machine cannot have a node. `.ci/run` then does without."""


class NodeUnavailableError(RuntimeError):
    """This machine cannot have a node: there is no source package, or the kernel lacks a feature."""
