"""The network of a build: what it may reach, and the record of what it reached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from ims.files import write_atomically
from ims.network.policy import Policy
from ims.sandbox.network import SandboxNetwork, provide
from ims.workspace import Workspace


@contextmanager
def build_network(workspace: Workspace, policy: Policy) -> Iterator[SandboxNetwork]:
    """Provide a network with a policy, and write the hosts that were reached to `fetched_hosts`.

    Errors that leave the context name the connections that were refused.
    """
    workspace.notes.mkdir(exist_ok=True)
    workspace.fetched_hosts.unlink(missing_ok=True)
    with provide(policy) as network:
        yield network
    write_atomically(workspace.fetched_hosts, json.dumps(sorted(network.report.fetched)))


def fetched_hosts(workspace: Workspace) -> tuple[str, ...] | None:
    """The HOST:PORT that the build reached; None if that is unknown."""
    path = workspace.fetched_hosts
    return tuple(json.loads(path.read_text())) if path.exists() else None
