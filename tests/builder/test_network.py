"""The network of a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.builder.network import build_network, fetched_hosts
from ims.network.policy import Policy
from ims.workspace import Workspace


@pytest.mark.system
def test_hosts_are_recorded(tmp_path: Path) -> None:
    """Only those of this build. What hostile code puts in place of the file is replaced, not followed."""
    workspace = Workspace(tmp_path)
    assert fetched_hosts(workspace) is None
    victim = tmp_path / "victim"
    victim.write_text("unchanged")
    with build_network(workspace, Policy("repositories")) as network:
        assert network.namespace > 0
        workspace.fetched_hosts.symlink_to(victim)
    assert fetched_hosts(workspace) == ()
    assert victim.read_text() == "unchanged"
