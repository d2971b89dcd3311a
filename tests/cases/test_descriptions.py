"""A recipe says what kiwi sees: includes, profiles, types, architectures, older names. kiwi itself reads these."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.errors import ConfigurationError, InputError
from ims.recipes import expansion
from ims.recipes.description import Description, read_description
from ims.recipes.expansion import expand
from ims.recipes.package_request import read_package_request
from ims.recipes.reading import RenderedRecipe, read_recipe

HEAD = """<image schemaversion="7.4" name="site">
<description type="system"><author>a</author><contact>a</contact><specification>s</specification></description>
"""
PREFERENCES = """<preferences><version>1.0.0</version><packagemanager>dnf4</packagemanager>
<type image="tbz"/></preferences>"""
REPOSITORY = '<repository type="rpm-md" alias="site"><source path="http://site.example/rpm"/></repository>'
PACKAGES = '<packages type="bootstrap"><package name="filesystem"/></packages>'
PROFILES = """<profiles><profile name="Base" description="b" import="true"/>
<profile name="Staging" description="s"><requires profile="Common"/></profile>
<profile name="Common" description="c"/></profiles>"""


def write(folder: Path, body: str, name: str = "config.xml") -> Path:
    """A rendered recipe."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"{HEAD}{body}</image>")
    return folder


def component(folder: Path, name: str, body: str) -> str:
    """Write a part of a description; returns what includes it."""
    (folder / "components").mkdir(parents=True, exist_ok=True)
    (folder / "components" / name).write_text(f"<image>{body}</image>")
    return f'<include from="this://./components/{name}"/>'


def read(folder: Path, arch: str = "x86_64", profiles: tuple[str, ...] = ()) -> Description:
    """What the description of a recipe says."""
    return read_description(expand(folder, arch, profiles).root)


def addresses(found: Description) -> list[str]:
    """The repositories of a description."""
    return [repository.url for repository in found.repositories]


@pytest.fixture
def included(tmp_path: Path) -> RenderedRecipe:
    """A recipe that consists of includes."""
    parts = {
        "preferences.xml": PREFERENCES,
        "users.xml": '<users><user name="operator" password="x" home="/home/operator"/></users>',
        "repositories.xml": REPOSITORY,
        "packages.xml": f'{PACKAGES}<packages type="delete"><package name="ca-certificates"/></packages>',
    }
    folder = tmp_path / "recipe"
    write(folder, "".join(component(folder, name, body) for name, body in parts.items()))
    return read_recipe(folder, "x86_64")


def test_includes(included: RenderedRecipe) -> None:
    """Their repositories and packages are known, so plans observe them, and each is there once."""
    found = included.description
    assert (found.package_manager, addresses(found)) == ("dnf4", ["http://site.example/rpm"])
    assert found.packages == ("filesystem", "ca-certificates")
    assert found.opaque == ()
    assert included.request is not None
    assert included.request.packages == ("filesystem",)
    assert included.request.removed == {"ca-certificates"}
    assert included.network.urls == ["http://site.example/rpm/repodata/repomd.xml"]
    assert [len(included.expansion.root.findall(name)) for name in ("users", "preferences", "packages")] == [1, 1, 2]


def test_change_of_an_include(included: RenderedRecipe, tmp_path: Path) -> None:
    """It is a change of the description, so a plan says build."""
    folder = tmp_path / "recipe"
    component(folder, "packages.xml", PACKAGES.replace("filesystem", "busybox"))
    changed = read_recipe(folder, "x86_64")
    assert changed.digests.description != included.digests.description
    assert read_recipe(folder, "x86_64").digests == changed.digests


def old(folder: Path, schema: str) -> Path:
    """A recipe of an older schema, in which a package manager had another name."""
    body = PREFERENCES.replace("dnf4", "dnf") + f'<include from="this://./{folder.name}.xml"/>'
    write(folder, PROFILES + body)
    (folder / f"{folder.name}.xml").write_text(f"<image>{REPOSITORY}{PACKAGES}</image>")
    text = (folder / "config.xml").read_text()
    (folder / "config.xml").write_text(text.replace('schemaversion="7.4"', f'schemaversion="{schema}"'))
    return folder


@pytest.mark.parametrize("schema", ["6.8", "6.9", "7.1", "7.3"])
def test_older_schema(tmp_path: Path, schema: str) -> None:
    """kiwi 9 converts it, also if it has includes."""
    found = read(old(tmp_path / "old", schema), profiles=("Common",))
    assert (found.package_manager, found.packages) == ("dnf4", ("filesystem",))
    assert addresses(found) == ["http://site.example/rpm"]


def test_error_in_an_older_schema(tmp_path: Path) -> None:
    """The reason is that of kiwi 9."""
    folder = old(tmp_path / "old", "6.8")
    (folder / "config.xml").write_text((folder / "config.xml").read_text().replace("<type ", '<type bogus="1" '))
    with pytest.raises(InputError, match=r"does not accept config\.xml: .*bogus"):
        expand(folder, "x86_64")


def test_without_kiwi_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is missing, and how to install it."""
    monkeypatch.setattr(expansion, "KIWI_9", tmp_path / "gone")
    with pytest.raises(ConfigurationError, match=r"older than 7\.4, and kiwi 9.* is not installed\. Run: make setup"):
        expand(old(tmp_path / "old", "6.8"), "x86_64")


def test_missing_include(tmp_path: Path) -> None:
    """kiwi's reason is in the error."""
    folder = write(tmp_path / "recipe", f'{PREFERENCES}<include from="this://./gone.xml"/>')
    with pytest.raises(InputError, match=r"does not accept config\.xml.*gone\.xml"):
        expand(folder, "x86_64")


def test_name_of_an_older_schema(tmp_path: Path) -> None:
    """kiwi calls it dnf4."""
    folder = write(tmp_path / "recipe", PREFERENCES.replace("dnf4", "dnf") + REPOSITORY + PACKAGES)
    assert read(folder).package_manager == "dnf4"


def profiled(folder: Path) -> Path:
    """A recipe with a repository and a package for each of several profiles."""
    body = PROFILES + PREFERENCES + REPOSITORY + PACKAGES
    for name in ("Base", "Staging", "Common", "Staging,Base"):
        body += f'<repository profiles="{name}"><source path="http://{name}.example"/></repository>'
        body += f'<packages type="image" profiles="{name}"><package name="for-{name.replace(",", "-")}"/></packages>'
    return write(folder, body)


SELECTED = {
    (): ("Base", "Staging,Base"),
    ("Base",): ("Base", "Staging,Base"),
    ("Common",): ("Common",),
    ("Staging",): ("Staging", "Common", "Staging,Base"),
}


@pytest.mark.parametrize("profiles", SELECTED)
def test_profiles(tmp_path: Path, profiles: tuple[str, ...]) -> None:
    """Without a choice, the imported ones are built; a chosen one brings those that it requires, and replaces them."""
    found = read(profiled(tmp_path / "recipe"), profiles=profiles)
    expected = SELECTED[profiles]
    assert addresses(found)[1:] == [f"http://{name}.example" for name in expected]
    assert found.packages == ("filesystem", *(f"for-{name.replace(',', '-')}" for name in expected))


def test_profiles_are_built_as_they_are_read(tmp_path: Path) -> None:
    """The expanded description needs no options: kiwi finds the same in it."""
    once = expand(profiled(tmp_path / "recipe"), "x86_64", ["Staging"])
    write(again := tmp_path / "again", "")
    (again / "config.xml").write_text(once.text)
    assert expand(again, "x86_64").text == once.text


def test_unknown_profile(tmp_path: Path) -> None:
    """kiwi's reason is in the error."""
    with pytest.raises(InputError, match="Gone"):
        expand(profiled(tmp_path / "recipe"), "x86_64", ["Gone"])


def types(*found: str) -> str:
    """Preferences with types."""
    return PREFERENCES.replace('<type image="tbz"/>', "".join(found))


OEM, LIVE, TBZ = '<type image="oem" filesystem="ext4" firmware="efi"/>', '<type image="iso"/>', '<type image="tbz"/>'
SQUASHFS = '<type image="squashfs" primary="true"/>'
TYPES = {
    "oem first": ([OEM, TBZ], "tbz"),
    "squashfs is primary": ([LIVE, TBZ, SQUASHFS], "squashfs"),
    "squashfs only": ([OEM, '<type image="squashfs"/>'], "squashfs"),
    "no image root": ([OEM, LIVE], "oem"),
    "primary": ([OEM, '<type image="iso" primary="true"/>'], "iso"),
}


@pytest.mark.parametrize(("given", "chosen"), TYPES.values(), ids=TYPES)
def test_type(tmp_path: Path, given: list[str], chosen: str) -> None:
    """The type whose root is needed is built, with its packages and without those of other types."""
    kinds = ("oem", "iso")
    more = "".join(f'<packages type="{kind}"><package name="for-{kind}"/></packages>' for kind in kinds)
    folder = write(tmp_path / "recipe", types(*given) + REPOSITORY + PACKAGES + more)
    root = expand(folder, "x86_64").root
    assert [item.get("image") for item in root.iterfind("preferences/type")] == [chosen]
    own = (f"for-{chosen}",) if chosen in kinds else ()
    assert read_package_request(root).packages == ("filesystem", *own)


def test_architectures(tmp_path: Path) -> None:
    """What is for another architecture does not count, whatever machine reads the recipe."""
    body = PREFERENCES + REPOSITORY
    body += '<repository arch="aarch64"><source path="http://arm.example"/></repository>'
    body += '<packages type="bootstrap"><package name="a"/><package name="b" arch="aarch64,x86_64"/>'
    body += '<package name="c" arch="aarch64"/><package name="d" arch="x86_64"/></packages>'
    folder = write(tmp_path / "recipe", body)
    assert read(folder, "x86_64").packages == ("a", "b", "d")
    assert read(folder, "aarch64").packages == ("a", "b", "c")
    assert addresses(read(folder, "aarch64")) == ["http://site.example/rpm", "http://arm.example"]


def test_file_of_another_name(tmp_path: Path) -> None:
    """kiwi reads config.xml or, without it, the first *.kiwi."""
    folder = write(tmp_path / "recipe", PREFERENCES + REPOSITORY + PACKAGES, "site.kiwi")
    write(folder, PREFERENCES + REPOSITORY + PACKAGES.replace("filesystem", "other"), "sitf.kiwi")
    recipe = read_recipe(folder, "x86_64")
    assert (recipe.expansion.file, recipe.description.packages) == ("site.kiwi", ("filesystem",))
