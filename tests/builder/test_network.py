"""The network of a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.builder.network import build_network, fetched_hosts
from ims.workspace import Workspace

CONFIG = """\
<image name="x" schemaversion="7.4"><preferences><packagemanager>apt</packagemanager></preferences></image>
"""


@pytest.mark.system
def test_hosts_are_recorded(tmp_path: Path) -> None:
    """Only those of this build. What hostile code puts in place of the file is replaced, not followed."""
    workspace = Workspace(tmp_path)
    workspace.recipe.mkdir()
    (workspace.recipe / "config.xml").write_text(CONFIG)
    assert fetched_hosts(workspace) is None
    victim = tmp_path / "victim"
    victim.write_text("unchanged")
    with build_network(workspace) as network:
        assert network.namespace > 0
        workspace.fetched_hosts.symlink_to(victim)
    assert fetched_hosts(workspace) == ()
    assert victim.read_text() == "unchanged"
