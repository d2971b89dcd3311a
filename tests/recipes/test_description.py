"""Reading kiwi descriptions, and checking them with kiwi-ng."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ims.errors import InputError
from ims.recipes.description import Description, read_description, redact
from ims.recipes.expansion import expand
from ims.recipes.expansion.xml import parse, read_xml
from ims.recipes.template import render

RECIPES = Path(__file__).parents[2] / "include" / "recipes"
VARIABLES = {
    "debian12": {
        "DEBIAN_MIRROR": "https://mirror.example/debian",
        "DEBIAN_SECURITY_MIRROR": "https://mirror.example/debian-security",
    },
    "sles15-barebones": {"NEXUS_URL": "https://nexus.example"},
}
FIRST_INDEX = {
    "debian12": "https://mirror.example/debian/dists/bookworm/InRelease",
    "sles15-barebones": "https://nexus.example/repository/SLE-Product-SLES-15-SP6-x86_64-Product/repodata/repomd.xml",
}


def rendered(name: str, folder: Path) -> Path:
    """A shipped recipe as a build uses it."""
    shutil.copytree(RECIPES / name, folder)
    render(folder, VARIABLES[name])
    return folder


def write(folder: Path, text: str | bytes) -> Path:
    """A recipe folder that is only a `config.xml`."""
    (folder / "config.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def read(text: str) -> Description:
    """What an expanded description says."""
    return read_description(parse(text.encode(), "config.xml"))


def description(repositories: str, manager: str = "zypper") -> str:
    """A minimal description with these repositories."""
    preferences = f"<preferences><version>1.0.0</version><packagemanager>{manager}</packagemanager></preferences>"
    return f'<image name="test">{preferences}{repositories}</image>'


def test_every_shipped_recipe_is_checked() -> None:
    """A new recipe must get its variables here."""
    assert {path.name for path in RECIPES.iterdir() if path.is_dir()} == set(VARIABLES)


@pytest.mark.parametrize("name", VARIABLES)
def test_shipped_recipe_is_accepted_by_kiwi(tmp_path: Path, name: str) -> None:
    """Its description can be read."""
    folder = rendered(name, tmp_path / name)
    found = read_description(expand(folder, "x86_64").root)
    assert found.name == name
    assert found.package_manager == {"debian12": "apt"}.get(name, "zypper")
    assert found.repositories[0].metadata_url == FIRST_INDEX[name]
    assert "dracut" in found.packages


def test_schema_error_names_the_attribute(tmp_path: Path) -> None:
    """The error has the relevant part of kiwi's output."""
    folder = rendered("sles15-barebones", tmp_path / "recipe")
    text = (folder / "config.xml").read_text()
    write(folder, text.replace("<image ", '<image bogus="1" '))
    with pytest.raises(InputError, match=r'kiwi-ng does not accept config\.xml: attribute "bogus" not allowed'):
        expand(folder, "x86_64")


def entity(number: int) -> str:
    """A reference to an entity."""
    return f"&a{number};"


SECRET = "only-in-another-file"
BAD = {
    "not XML": ("image: test", "config.xml is not XML"),
    "empty": ("", "config.xml is not XML"),
    "unfinished": ("<image><preferences>", "config.xml is not XML"),
    "another document": ("<html/>", "its root is <html>"),
    "no package manager": ('<image name="test"><preferences/></image>', "names no <packagemanager>"),
    "package manager that builds do not have": (
        description("", manager="dnf5"),
        "the package manager dnf5 is not supported",
    ),
    "empty package manager": (description("", manager=" "), "names no <packagemanager>"),
    "document type": ("<!DOCTYPE image>" + description(""), "document type declaration"),
    "file of the machine": (
        '<!DOCTYPE image [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + description("", manager="&x;"),
        "document type declaration",
    ),
    "external document type": (
        '<!DOCTYPE image SYSTEM "http://127.0.0.1:9/x.dtd">' + description(""),
        "document type declaration",
    ),
    "entities that grow": (
        '<!DOCTYPE image [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>' + description("", manager="&b;"),
        "document type declaration",
    ),
    "a billion laughs": (
        "<!DOCTYPE image ["
        + '<!ENTITY a0 "ha">'
        + "".join(f'<!ENTITY a{n} "{entity(n - 1) * 10}">' for n in range(1, 10))
        + "]>"
        + description("", manager="&a9;").replace("test", "&a9;"),
        "config.xml",
    ),
    "3,000 nested elements": ("<image>" * 3000 + "</image>" * 3000, "config.xml is not XML"),
    "many repositories": (
        description('<repository><source path="http://h/repo"/></repository>' * 201),
        "the description has 201 repositories, more than 200",
    ),
    "many packages": (
        description("<packages>" + '<package name="a"/>' * 20_001 + "</packages>"),
        "the description has 20001 packages, more than 20000",
    ),
    "many logins": (
        description('<repository imageonly="true" password="x"/>' * 1001),
        "the description has 1001 logins, more than 1000",
    ),
    "a long name": (
        description(f'<packages><package name="{"n" * 3000}"/></packages>'),
        "the description has a value of 3000 characters, more than 2048",
    ),
    "an address that is none": (
        description('<repository><source path="http://[::1/x"/></repository>'),
        "http://[::1/x",
    ),
}


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD)
def test_bad_description_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """The error says in one sentence what is wrong."""
    with pytest.raises(InputError) as caught:
        read_description(read_xml(write(tmp_path, text)))
    assert reason in caught.value.reason


def test_entities_are_not_read_from_other_files(tmp_path: Path) -> None:
    """Neither the result nor the error contains anything of them."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    text = f'<!DOCTYPE image [<!ENTITY x SYSTEM "{secret.as_uri()}">]>' + description("", manager="&x;")
    with pytest.raises(InputError) as caught:
        read_xml(write(tmp_path, text))
    assert SECRET not in str(caught.value)


def test_check_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file and the limit."""
    monkeypatch.setattr("ims.recipes.expansion.CHECK_SECONDS", 0.01)
    with pytest.raises(InputError, match=r"kiwi-ng did not check config\.xml within 0\.01 s"):
        expand(write(tmp_path, description("")), "x86_64")


def test_large_description_is_refused(tmp_path: Path) -> None:
    """It is not parsed."""
    folder = write(tmp_path, description(f"<!--{' ' * 17 * 1024 * 1024}-->"))
    with pytest.raises(InputError, match="larger than"):
        read_xml(folder)


URLS = {
    "rpm-md": ("zypper", "", "http://h/repo", "http://h/repo/repodata/repomd.xml"),
    "slash at the end": ("dnf4", "", "http://h/repo/", "http://h/repo/repodata/repomd.xml"),
    "root of a server": ("dnf4", "", "https://h:8443", "https://h:8443/repodata/repomd.xml"),
    "query": ("zypper", "", "http://h/repo?a=1", "http://h/repo/repodata/repomd.xml?a=1"),
    "slash and query": ("zypper", "", "http://h/repo/?a=1/", "http://h/repo/repodata/repomd.xml?a=1/"),
    "fragment": ("zypper", "", "http://h/repo#part", "http://h/repo/repodata/repomd.xml"),
    "space around": ("zypper", "", " http://h/repo ", "http://h/repo/repodata/repomd.xml"),
    "login in the address": ("zypper", "", "http://u:p@h/repo", "http://u:p@h/repo/repodata/repomd.xml"),
    "login in attributes": (
        "zypper",
        'username="u@site" password="p/w"',
        "http://h/repo",
        "http://u%40site:p%2Fw@h/repo/repodata/repomd.xml",
    ),
    "metalink": ("dnf4", 'sourcetype="metalink"', "http://h/metalink?repo=x", "http://h/metalink?repo=x"),
    "mirrorlist": ("dnf4", 'sourcetype="mirrorlist"', "http://h/list", "http://h/list"),
    "apt": ("apt", 'distribution="bookworm"', "http://h/debian/", "http://h/debian/dists/bookworm/InRelease"),
    "apt, flat": ("apt", "", "http://h/flat/", "http://h/flat/Release"),
}


@pytest.mark.parametrize(("manager", "attributes", "url", "index"), URLS.values(), ids=URLS)
def test_index_of_a_repository(manager: str, attributes: str, url: str, index: str) -> None:
    """Each package manager reads another file first."""
    text = description(f'<repository {attributes}><source path="{url}"/></repository>', manager)
    assert [found.metadata_url for found in read(text).repositories] == [index]


NOT_ASKED = {
    "a folder": '<repository><source path="dir:///srv/repo"/></repository>',
    "obs": '<repository><source path="obs://openSUSE:Leap:15.6/standard"/></repository>',
    "relative to the description": '<repository><source path="this://repo"/></repository>',
    "no source": "<repository/>",
    "no path": "<repository><source/></repository>",
    "only for the finished image": '<repository imageonly="true"><source path="http://h/repo"/></repository>',
}


@pytest.mark.parametrize("repository", NOT_ASKED.values(), ids=NOT_ASKED)
def test_unreachable_or_unused_repository_is_skipped(repository: str) -> None:
    """It is not on the network, or the build does not use it."""
    assert read(description(repository)).repositories == ()


def test_packages_of_all_phases_are_read() -> None:
    """They are in the order of the description."""
    text = description(
        '<packages type="bootstrap"><package name="a"/></packages>'
        '<packages type="image"><package name="b"/><ignore name="c"/></packages>'
    )
    assert read(text).packages == ("a", "b")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:secret@h:8081/repo?a=1", "http://h:8081/repo?a=1"),
        ("http://token@h/repo", "http://h/repo"),
        ("http://user:p@ss@h/repo", "http://h/repo"),
        ("http://h/repo", "http://h/repo"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    """Logs and errors show the address of a repository without user and password."""
    assert redact(url) == shown


def test_name_of_a_repository_has_no_password() -> None:
    """Logs and errors show this name."""
    text = description('<repository><source path="http://user:secret@h/repo"/></repository>')
    (repository,) = read(text).repositories
    assert repository.name == "http://h/repo"


LOGINS = {
    "in the address": ("", "http://u:pass%2Fword@h/repo"),
    "in attributes": ('username="u" password="pass/word"', "http://h/repo"),
    "a token": ("", "http://pass%2Fword@h/repo"),
}


@pytest.mark.parametrize(("attributes", "url"), LOGINS.values(), ids=LOGINS)
def test_repository_without_its_login(attributes: str, url: str) -> None:
    """It is stored without user and password, but known to need them; the passwords can be hidden."""
    text = description(f'<repository {attributes}><source path="{url}"/></repository>')
    found = read(text)
    (repository,) = found.repositories
    assert repository.needs_login
    assert not repository.lacks_login
    assert repository.without_login().lacks_login
    assert "pass" not in str(repository.without_login())
    assert "pass/word" in found.logins
