"""What plans say about recipes whose inputs cannot all be observed, and which repositories are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.recipes.description import read_description
from ims.recipes.expansion.xml import read_xml
from ims.recipes.registration import read_registration

CONFIG = """\
<image schemaversion="7.4" name="site">
  <description type="system"><author>a</author><contact>a</contact><specification>a</specification></description>
  <preferences><version>1.0.0</version><packagemanager>{manager}</packagemanager><type image="tbz"/></preferences>
  {more}
  <packages type="bootstrap"><package name="filesystem"/></packages>
</image>
"""
SITE = '<repository><source path="http://site.example/repo"/></repository>'


def recipe(folder: Path, more: str, manager: str = "dnf4") -> Path:
    """A rendered recipe."""
    (folder / "config.xml").write_text(CONFIG.format(more=more, manager=manager))
    return folder


def opaque(folder: Path) -> tuple[str, ...]:
    """What of a recipe cannot be observed."""
    found = read_registration(folder)
    return read_description(read_xml(folder), found.network, found.network_hosts).opaque


OPAQUE = {
    "the Open Build Service": (
        f'{SITE}<repository><source path="obs://Virtualization:Builder/Debian_12"/></repository>',
        "the repository obs://Virtualization:Builder/Debian_12 cannot be observed",
    ),
    "a folder of the builder": (
        '<repository><source path="dir:///srv/site-repo"/></repository>',
        "the repository dir:///srv/site-repo cannot be observed",
    ),
    "ftp with a login": (
        '<repository><source path="ftp://me:secret@site.example/r"/></repository>',
        "the repository ftp://site.example/r cannot be observed",
    ),
    "a container": (
        '<containers backend="podman"><container name="registry.example/tools"/></containers>',
        "the container registry.example/tools cannot be observed",
    ),
}


@pytest.mark.parametrize(("more", "phrase"), OPAQUE.values(), ids=OPAQUE)
def test_opaque_input(tmp_path: Path, more: str, phrase: str) -> None:
    """Plans say build, and name what cannot be observed, without logins."""
    assert opaque(recipe(tmp_path, more)) == (phrase,)


def test_base_image_and_open_network(tmp_path: Path) -> None:
    """Nor can anybody know whether a base image or what scripts download changed."""
    folder = recipe(tmp_path, SITE)
    config = (folder / "config.xml").read_text()
    (folder / "config.xml").write_text(config.replace('image="tbz"', 'image="docker" derived_from="obs://base"'))
    (folder / ".ims_recipe.yaml").write_text("network: open\n")
    assert opaque(folder) == (
        "the base image obs://base cannot be observed",
        "scripts may download anything (network: open)",
    )


def test_further_hosts(tmp_path: Path) -> None:
    """What scripts download from a host of `network_hosts` may have changed."""
    folder = recipe(tmp_path, SITE)
    (folder / ".ims_recipe.yaml").write_text("network_hosts: [cdn.example, 'git.example:8443']\n")
    assert opaque(folder) == (
        "scripts may download anything from cdn.example (network_hosts)",
        "scripts may download anything from git.example:8443 (network_hosts)",
    )


def test_all_is_observed(tmp_path: Path) -> None:
    """Repositories on the network, and those that are part of the recipe."""
    own = '<repository><source path="this://./packages"/></repository>'
    assert opaque(recipe(tmp_path, SITE + own)) == ()


def test_many_opaque_inputs(tmp_path: Path) -> None:
    """Their number is bounded: build inputs are passed on."""
    assert len(opaque(recipe(tmp_path, '<repository><source path="obs://x"/></repository>' * 150))) == 20
