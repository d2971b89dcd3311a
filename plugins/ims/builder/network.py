"""The network of a build: what it may reach, and what it contacted that no plan observes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Literal

from pydantic import BaseModel

from ims.files import write_atomically
from ims.network.policy import Policy
from ims.network.report import Report
from ims.network.senders import Sender
from ims.recipes.opaque import MAX_INPUTS
from ims.sandbox.network import SandboxNetwork, provide
from ims.workspace import Workspace

Phase = Literal["packages", "scripts"]
_UNOBSERVED: dict[Phase, dict[Sender, str]] = {
    "packages": {"script": "post_bootstrap.sh", "program": "a program that is not the package manager"},
    "scripts": dict.fromkeys(("package manager", "program", "script"), "config.sh or images.sh"),
}
"""Whose requests plans do not observe. Once the packages are installed, no part of kiwi needs the network."""


class NetworkUse(BaseModel):
    """`hosts` are the HOST:PORT that a build reached.

    `downloads` has a phrase for each program and host, if plans do not observe what the program downloads. None means
    unknown.
    """

    hosts: tuple[str, ...] | None = None
    downloads: tuple[str, ...] | None = None


@contextmanager
def build_network(workspace: Workspace, policy: Policy, phase: Phase) -> Iterator[SandboxNetwork]:
    """Provide a network with a policy for a phase of a build, and note at the end how it was used, see `network_use`.

    Errors that leave the context name the connections that were refused.
    """
    with provide(policy) as network:
        yield network
    before = network_use(workspace)
    use = NetworkUse(
        hosts=tuple(sorted({*(before.hosts or ()), *network.report.fetched})),
        downloads=(*(before.downloads or ()), *_downloads(network.report, phase)),
    )
    write_atomically(workspace.network_use, use.model_dump_json())


def network_use(workspace: Workspace) -> NetworkUse:
    """How the phases of a build that have ended used the network."""
    path = workspace.network_use
    return NetworkUse.model_validate_json(path.read_bytes()) if path.exists() else NetworkUse()


def _downloads(report: Report, phase: Phase) -> Iterator[str]:
    """A phrase for each host that scripts or unknown programs contacted, even if it did not answer."""
    found = {
        f"{name} contacted {host} in the last build"
        for sender, name in _UNOBSERVED[phase].items()
        for host in report.contacted.get(sender, ())
    }
    yield from islice(sorted(found), MAX_INPUTS)
