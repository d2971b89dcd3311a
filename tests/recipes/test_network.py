"""The network that the builds of a recipe have."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.errors import InputError
from ims.recipes.description import read_description
from ims.recipes.expansion.xml import read_xml
from ims.recipes.network import RecipeNetwork, read_network
from ims.recipes.registration import read_registration

CONFIG = """\
<image name="x" schemaversion="7.4">
  <preferences><version>1.0.0</version><packagemanager>zypper</packagemanager></preferences>
  <repository>
    <source path="https://me:secret@nexus.example/repository">
      <signing key="http://keys.example:8080/key.asc"/>
      <signing key="file:///key.asc"/>
    </source>
  </repository>
  <repository><source path="http://mirror.example/other"/></repository>
  <repository><source path="obs://project/other"/></repository>
</image>
"""


def network(folder: Path, registration: str) -> RecipeNetwork:
    """The network of a recipe with two repositories that builds reach by http."""
    (folder / "config.xml").write_text(CONFIG)
    (folder / ".ims_recipe.yaml").write_text(registration)
    root = read_xml(folder)
    return read_network(read_registration(folder), read_description(root), root)


def test_repositories_are_the_default(tmp_path: Path) -> None:
    """With the servers of their keys."""
    policy = network(tmp_path, "").policy()
    assert policy.access == "repositories"
    assert policy.endpoints == ("keys.example:8080", "mirror.example:80", "nexus.example:443")


def test_further_hosts(tmp_path: Path) -> None:
    """For example, those to which an https repository redirects."""
    assert "cdn.example:443" in network(tmp_path, "network_hosts: [cdn.example]").policy().endpoints


def test_open_network(tmp_path: Path) -> None:
    """Scripts reach every address that is not refused."""
    assert network(tmp_path, "network: open").policy().access == "open"


@pytest.mark.parametrize("text", ["network: closed", "network_hosts: ['a/b']"])
def test_invalid_network(tmp_path: Path, text: str) -> None:
    """The build fails because of the recipe."""
    with pytest.raises(InputError):
        network(tmp_path, text).policy()
