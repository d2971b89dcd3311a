"""Repositories are asked for what apt, dnf and zypper ask for first, and their indexes are found through mirrors."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.errors import UnavailableError
from ims.recipes import indexes
from ims.recipes.availability import Answer, ask_all
from ims.recipes.description import Repository, read_description
from ims.recipes.expansion.xml import read_xml
from ims.recipes.indexes import mirrors_in
from ims.recipes.metadata import index_digests
from tests.cases.test_plans import recipe
from tests.flows.rpm_repository import RepositoryServer

NO_CA = Path("/nonexistent/ca.pem")
INDEX = "repodata/repomd.xml"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RepositoryServer]:
    """A server with an RPM repository, and two of apt: one has no InRelease, the other is flat."""
    for name in (f"rpm/{INDEX}", "debian/dists/old/Release", "flat/Release", "signed/InRelease", "signed/Release"):
        path = tmp_path / "served" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with RepositoryServer(tmp_path / "served") as running:
        yield running


def ask(repository: Repository) -> Answer:
    """Ask a repository once."""
    (answer,) = asyncio.run(ask_all([repository], NO_CA))
    return answer


def digest(repository: Repository) -> str:
    """The digest of its index."""
    (found,) = index_digests([repository], NO_CA).values()
    return found


def sha256(text: str) -> str:
    """The digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


APT = {
    "without InRelease": ("debian", "/dists/old/InRelease", "debian/dists/old/Release"),
    "flat": ("flat", "/Release", "flat/Release"),
    "flat, with InRelease": ("signed", "/Release", "signed/InRelease"),
}


@pytest.mark.parametrize(("folder", "index", "content"), APT.values(), ids=APT)
def test_apt(server: RepositoryServer, folder: str, index: str, content: str) -> None:
    """apt reads InRelease or, if it does not exist, Release."""
    one = Repository(f"{server.url}/{folder}", f"{server.url}/{folder}{index}")
    assert ask(one).ready
    assert digest(one) == sha256(content)


def test_apt_without_an_index(server: RepositoryServer) -> None:
    """The repository is waited for."""
    answer = ask(Repository(f"{server.url}/gone", f"{server.url}/gone/Release"))
    assert (answer.ready, answer.final, answer.text[:3]) == (False, False, "404")


def mirrored(server: RepositoryServer, folder: Path, text: str) -> Repository:
    """A repository with a list of mirrors."""
    (folder / "served/list").write_text(text.replace("SERVER", server.url))
    return Repository(f"{server.url}/list", f"{server.url}/list", is_list=True)


METALINK = """<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/"><files><file name="repomd.xml"><resources>
<url protocol="rsync" type="rsync">rsync://mirror.example/rpm/repodata/repomd.xml</url>
<url protocol="http" type="http">SERVER/gone/repodata/repomd.xml</url>
<url protocol="http" type="http">SERVER/rpm/repodata/repomd.xml</url>
</resources></file></files></metalink>"""
LISTS = {
    "mirror list": "# repo = site\nhttp://127.0.0.1:1/refused\nSERVER/gone\nSERVER/rpm/\n",
    "metalink": METALINK,
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_list_of_mirrors(server: RepositoryServer, tmp_path: Path, text: str) -> None:
    """The first mirror that has the index counts, and its index decides the digest, not the list."""
    one = mirrored(server, tmp_path, text)
    assert ask(one).ready
    assert digest(one) == sha256(f"rpm/{INDEX}")
    assert digest(mirrored(server, tmp_path, f"SERVER/rpm\n{text}")) == digest(one) or text.startswith("<")
    (tmp_path / "served/rpm" / INDEX).write_text("published")
    assert digest(one) == sha256("published")


NO_MIRRORS = {
    "no mirror has it": ("SERVER/gone\nSERVER/other\n", "404"),
    "none on the network": ("ftp://mirror.example/rpm\nnot an address\nhttp://[\n", "its list names no mirror"),
    "HTML": ("<html><body>Log in</body>", "its list names no mirror"),
    "too large": ("#" * (indexes.MAX_LIST + 1), "its list of mirrors is larger than"),
}


@pytest.mark.parametrize(("text", "reason"), NO_MIRRORS.values(), ids=NO_MIRRORS)
def test_list_without_a_mirror(server: RepositoryServer, tmp_path: Path, text: str, reason: str) -> None:
    """The repository is waited for, and the reason is named. A plan has no digest."""
    one = mirrored(server, tmp_path, text)
    answer = ask(one)
    assert (answer.ready, answer.final) == (False, False)
    assert reason in answer.text
    with pytest.raises(UnavailableError, match=reason):
        digest(one)


def test_missing_list(server: RepositoryServer) -> None:
    """The answer of its server counts."""
    assert ask(Repository(server.url, f"{server.url}/nothing", is_list=True)).text.startswith("404")


def test_number_of_mirrors(server: RepositoryServer, tmp_path: Path) -> None:
    """A list cannot make the service ask many servers."""
    ask(mirrored(server, tmp_path, "".join(f"SERVER/gone{n}\n" for n in range(100))))
    assert len([line for line in server.requests if "gone" in line]) == indexes.MAX_MIRRORS


def test_entities_of_a_metalink(tmp_path: Path) -> None:
    """A metalink reads no file of the service."""
    (tmp_path / "secret").write_text("http://leak.example/repodata/repomd.xml")
    text = f'<!DOCTYPE m [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]><metalink><url>&x;</url></metalink>'
    assert mirrors_in(text.encode()) == []


HOSTILE = {
    "open tags": "<url " * 200_000,
    "no end": "<url>" + "x" * 1_000_000,
    "prefixes": "<" + "x" * 1_000_000,
    "spaces": "<url" + " " * 1_000_000,
    "deep": "<a>" * 300_000,
    "entities": '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">]><metalink>' + "<url>&a;</url>" * 70_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_metalink(text: str) -> None:
    """It is read in a moment, without an XML parser."""
    started = time.monotonic()
    assert mirrors_in(text.encode()) == []
    assert time.monotonic() - started < 5


def test_address_in_a_metalink_is_escaped() -> None:
    """Elements may have a prefix, attributes and spaces around the address."""
    text = '<m:url priority="1">\n http://h/x?a=1&amp;b=/repodata/repomd.xml\n</m:url>'
    assert mirrors_in(f"\ufeff<?xml version='1.0'?><m:metalink>{text}</m:metalink>".encode()) == [
        "http://h/x?a=1&b=/repodata/repomd.xml"
    ]


ADDRESSES = {
    "$releasever/$basearch/os": f"9/{platform.machine()}/os",
    "${releasever}/${basearch}/os": f"9/{platform.machine()}/os",
    "$arch/$other/$basearchive": f"{platform.machine()}/$other/$basearchive",
}


@pytest.mark.parametrize(("path", "expected"), ADDRESSES.items(), ids=ADDRESSES)
@pytest.mark.parametrize("manager", ["dnf4", "zypper"])
def test_variables_of_package_managers(tmp_path: Path, manager: str, path: str, expected: str) -> None:
    """They have the values that kiwi's package manager gives them."""
    more = "<preferences><release-version>9</release-version></preferences>"
    more += f'<repository><source path="http://h/{path}"/></repository>'
    (found,) = read_description(read_xml(recipe(tmp_path, more, manager))).repositories
    assert (found.url, found.metadata_url) == (f"http://h/{expected}", f"http://h/{expected}/{INDEX}")


def test_unknown_release(tmp_path: Path) -> None:
    """Without <release-version>, the release is unknown. apt has no variables."""
    more = '<repository><source path="http://h/$releasever"/></repository>'
    assert read_description(read_xml(recipe(tmp_path, more))).repositories[0].url == "http://h/$releasever"
    more = '<repository distribution="x"><source path="http://h/$arch"/></repository>'
    assert read_description(read_xml(recipe(tmp_path, more, "apt"))).repositories[0].url == "http://h/$arch"


@pytest.mark.parametrize("kind", ["mirrorlist", "metalink"])
def test_description_says_what_is_a_list(tmp_path: Path, kind: str) -> None:
    """Only dnf and zypper have lists."""
    more = f'<repository sourcetype="{kind}" distribution="x"><source path="http://h/list"/></repository>'
    assert read_description(read_xml(recipe(tmp_path, more))).repositories[0].is_list
    assert not read_description(read_xml(recipe(tmp_path, more, "apt"))).repositories[0].is_list
