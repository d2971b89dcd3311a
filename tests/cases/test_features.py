"""The table of kiwi's features in the documentation is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ims.errors import InputError
from ims.recipes import archive
from ims.recipes.description import read_description
from ims.recipes.expansion import Expansion, expand
from tests.cases.test_descriptions import component, write

PAGE = Path(__file__).parents[2] / "docs" / "write-a-recipe.md"
ROW = re.compile(r"^\| `(?P<feature>[^`]+)` \| (?P<status>Supported|Ignored|Refused) \|", re.MULTILINE)
TABLE = {match["feature"]: match["status"] for match in ROW.finditer(PAGE.read_text())}

BODY = """<profiles><profile name="Base" description="b" import="true"/></profiles>
<preferences><version>1.0.0</version><packagemanager>zypper</packagemanager><release-version>15</release-version>
<locale>en_US</locale><timezone>UTC</timezone><keytable>us</keytable><type image="tbz"/></preferences>
<users><user name="root" password="x" home="/root" groups="root"/></users>
<repository alias="a" imageinclude="true"><source path="https://site.example/$releasever">
<signing key="https://site.example/key.asc"/></source></repository>
<packages type="bootstrap" profiles="Base"><package name="filesystem"/><package name="arm" arch="aarch64"/></packages>
<packages type="image"><namedCollection name="base"/><file name="motd" target="/etc/motd"/></packages>
<packages type="delete"><package name="perl"/></packages>
"""
SUPPORTED = {
    "<include>": "repository[@alias='included']",
    "<profiles>": "packages[@profiles='Base']/package[@name='filesystem']",
    "arch": "self::*[not(packages/package/@name='arm')]",
    "<users>": "users/user[@name='root']",
    '<packages type="image">': "packages[@type='image']",
    '<packages type="delete">': "packages[@type='delete']/package[@name='perl']",
    "<namedCollection>": "packages/namedCollection[@name='base']",
    "<file>": "packages/file[@target='/etc/motd']",
    "<repository>": "repository[@alias='a']",
    "imageinclude": "repository[@imageinclude='true']",
    "<signing>": "repository/source/signing",
    "<release-version>": "preferences[release-version='15']",
    "<locale>": "preferences[locale='en_US' and timezone='UTC' and keytable='us']",
}
IGNORED = {
    "filesystem": ('<type image="tbz"/>', '<type image="oem" filesystem="ext4" firmware="efi"/>'),
    "<drivers>": ("</users>", '</users><drivers><file name="drivers/net/*"/></drivers>'),
    "disk.sh": None,
}
REFUSED = {
    "<!DOCTYPE>": "document type declaration",
    "config.yaml": "has no config.xml",
    "<packagemanager>": "names no <packagemanager>",
}


def test_every_row_is_tested() -> None:
    """A new row needs a test."""
    assert {feature: status for feature, status in TABLE.items() if status == "Supported"}.keys() == SUPPORTED.keys()
    assert {feature: status for feature, status in TABLE.items() if status == "Ignored"}.keys() == IGNORED.keys()
    assert {feature: status for feature, status in TABLE.items() if status == "Refused"}.keys() == REFUSED.keys()


@pytest.fixture(scope="module")
def expansion(tmp_path_factory: pytest.TempPathFactory) -> Expansion:
    """A description with everything that is supported, as kiwi sees it."""
    folder = tmp_path_factory.mktemp("features") / "recipe"
    part = component(folder, "part.xml", '<repository alias="included"><source path="http://b.example"/></repository>')
    return expand(write(folder, BODY + part), "x86_64")


@pytest.mark.parametrize("feature", SUPPORTED)
def test_supported(expansion: Expansion, feature: str) -> None:
    """It is part of what is built."""
    assert expansion.root.xpath(SUPPORTED[feature])


def test_ignored(expansion: Expansion, tmp_path: Path) -> None:
    """It changes neither packages nor repositories, and kiwi accepts it."""
    body = BODY
    for change in IGNORED.values():
        body = body.replace(*change) if change is not None else body
    folder = write(tmp_path / "recipe", body)
    (folder / "disk.sh").write_text("exit 1\n")
    found = read_description(expand(folder, "x86_64").root)
    assert found.packages == read_description(expansion.root).packages
    assert [repository.url for repository in found.repositories] == ["https://site.example/15"]


def test_rule_of_the_schema(tmp_path: Path) -> None:
    """The reason has the sentence of the rule that the description breaks."""
    folder = write(tmp_path / "recipe", BODY.replace('image="tbz"', 'image="tbz" filesystem="ext4"'))
    with pytest.raises(InputError, match=r"does not accept config\.xml: .*filesystem"):
        expand(folder, "x86_64")


@pytest.mark.parametrize("feature", REFUSED)
def test_refused(feature: str, tmp_path: Path) -> None:
    """The reason says what is wrong."""
    folder = write(tmp_path / "recipe", BODY.replace("<packagemanager>zypper</packagemanager>", ""))
    if feature == "<!DOCTYPE>":
        (folder / "config.xml").write_text(f"<!DOCTYPE image>{(folder / 'config.xml').read_text()}")
    if feature == "config.yaml":
        (folder / "config.xml").rename(folder / "config.yaml")
    with pytest.raises(InputError, match=REFUSED[feature]):
        read_description(expand(folder, "x86_64").root)
    if feature == "config.yaml":
        with pytest.raises(InputError, match=REFUSED[feature]):
            archive.pack(folder, tmp_path / "recipe.tar.gz")
