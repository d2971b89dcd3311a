"""Recipes as people have them, built with kiwi-ng and real package managers."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.removal import remove
from ims.settings import settings
from tests.flows.rpm_repository import Package, RepositoryServer, basic_packages, build_repository
from tests.images.trees import unmount
from tests.steps.building import Builder, Built

pytestmark = pytest.mark.system

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="{schema}" name="{name}">
<description type="system"><author>a</author><contact>a</contact><specification>s</specification></description>
"""
PREFERENCES = """<preferences><version>1.0.0</version><packagemanager>{manager}</packagemanager>
{types}</preferences>"""
PACKAGES = """<packages type="bootstrap"><package name="filesystem"/><package name="busybox"/>
<package name="ca-certificates"/><package name="kernel-default"/><package name="shadow"/></packages>"""
USERS = """<users><user name="operator" password="$1$abcdefgh$irWbblnpmw.5z7wgBnprh0" home="/home/operator"/></users>"""
USERADD = """#!/bin/sh
for name; do :; done
mkdir -p "/home/$name"
echo "$name:x:1000:1000::/home/$name:/bin/sh" >> /etc/passwd
echo "$name:x:1000:" >> /etc/group
"""
TBZ = '<type image="tbz"/>'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RepositoryServer]:
    """A repository with the packages of the smallest image, and a program that adds users."""
    shadow = Package("shadow", programs={"/usr/sbin/useradd": USERADD.encode()}, requires=("filesystem",))
    folder = build_repository(tmp_path_factory.mktemp("repository"), [*basic_packages(), shadow])
    with RepositoryServer(folder) as running:
        yield running


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The folder of a recipe."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    return folder


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[Path]:
    """The folder of the jobs."""
    parent = settings().home / "builds"
    parent.mkdir(mode=0o700, exist_ok=True)
    folder = parent / tmp_path.name
    folder.mkdir()
    yield folder
    unmount(folder)
    remove(folder)


def write(folder: Path, body: str, schema: str = "7.4", file: str = "config.xml") -> None:
    """Write a description."""
    (folder / file).write_text(HEAD.format(schema=schema, name="site") + body + "</image>")


def script(folder: Path, text: str) -> None:
    """Write a config.sh."""
    (folder / "config.sh").write_text(f"#!/bin/bash\n{text}")
    (folder / "config.sh").chmod(0o755)


def repository(server: RepositoryServer, more: str = "") -> str:
    """The repository of the tests."""
    return f'<repository type="rpm-md" alias="site" {more}><source path="{server.url}"/></repository>'


def packages_of(built: Built) -> bool:
    """Whether a package is installed."""
    return (built.root / "usr/bin/busybox").exists()


def test_shape_of_csm(recipe: Path, builds: Path, server: RepositoryServer) -> None:
    """Schema 6.8, several types and profiles, and functions that kiwi no longer has: it builds unchanged."""
    types = '<type image="squashfs" primary="true"/><type image="tbz"/>'
    body = """<profiles><profile name="Live" description="live" import="true"/>
    <profile name="PXE" description="pxe"/></profiles>
    <preferences profiles="Live"><type image="iso" flags="overlay" firmware="efi"/></preferences>
    <preferences profiles="PXE"><type image="pxe" filesystem="squashfs" boot="netboot/suse-SLES15"/></preferences>
    """
    body += PREFERENCES.format(manager="zypper", types=types) + USERS + repository(server) + PACKAGES
    write(recipe, body, schema="6.8")
    script(
        recipe,
        """test -f /.kconfig && . /.kconfig
test -f /.profile && . /.profile
baseMount
suseSetupProduct
suseConfig
baseCleanMount
echo "$kiwi_type $kiwi_profiles" > /etc/built
exit 0
""",
    )
    built = Builder(recipe, "zypper", builds).build()
    assert packages_of(built)
    assert (built.root / "etc/built").read_text() == "squashfs Live\n"
    assert "baseMount does nothing: remove the line: kiwi does it" in (built.root.parent / "kiwi.log").read_text()


def test_oem_first(recipe: Path, builds: Path, server: RepositoryServer) -> None:
    """The type whose root is needed is built, and scripts find its name."""
    types = '<type image="oem" filesystem="ext4" firmware="efi" installiso="true"/><type image="tbz"/>'
    body = PREFERENCES.format(manager="dnf4", types=types) + repository(server) + PACKAGES
    write(recipe, f'{body}<packages type="oem"><package name="not-in-this-repository"/></packages>')
    script(recipe, '. /.profile\ncase "$kiwi_type" in oem|vmx) exit 3;; esac\n')
    assert packages_of(Builder(recipe, "dnf4", builds).build())


def test_parts(recipe: Path, builds: Path, server: RepositoryServer) -> None:
    """Preferences, users, repositories and packages in files that the description includes, named as kiwi allows."""
    parts = {
        "preferences": PREFERENCES.format(manager="dnf", types=TBZ),
        "users": USERS,
        "repositories": repository(server, 'imageinclude="true"'),
        "packages": PACKAGES,
    }
    (recipe / "components").mkdir()
    for name, body in parts.items():
        (recipe / f"components/{name}.xml").write_text(f"<image>{body}</image>")
    includes = "".join(f'<include from="this://./components/{name}.xml"/>' for name in parts)
    write(recipe, includes, file="site.kiwi")
    built = Builder(recipe, "dnf4", builds).build()
    assert (built.root / "etc/passwd").read_text().count("operator:x:") == 1
    (included,) = (built.root / "etc/yum.repos.d").glob("*.repo")
    assert included.read_text().count(f"baseurl = {server.url}") == 1


@pytest.mark.parametrize("manager", ["dnf4", "zypper"])
def test_variables_in_an_address(
    recipe: Path, builds: Path, tmp_path_factory: pytest.TempPathFactory, manager: str
) -> None:
    """The package manager asks for the release of the description and the architecture of the builder."""
    top = tmp_path_factory.mktemp("releases")
    folder = top / f"9/{platform.machine()}/os"
    folder.parent.mkdir(parents=True)
    build_repository(folder, basic_packages())
    preferences = PREFERENCES.format(manager=manager, types=TBZ)
    preferences = preferences.replace("</packagemanager>", "</packagemanager><release-version>9</release-version>")
    with RepositoryServer(top) as running:
        address = f'<repository alias="site"><source path="{running.url}/$releasever/$basearch/os"/></repository>'
        write(recipe, preferences + address + PACKAGES.replace('<package name="shadow"/>', ""))
        assert packages_of(Builder(recipe, manager, builds).build())
    assert not [line for line in running.requests if "$" in line or "%24" in line]


def test_profile(recipe: Path, builds: Path, server: RepositoryServer) -> None:
    """A profile that is built brings its overlay; a repository of another one is not used."""
    profiles = '<profiles><profile name="Base" description="b" import="true"/><profile name="Lab" description="l"/>'
    body = f"{profiles}</profiles>" + PREFERENCES.format(manager="dnf4", types=TBZ) + repository(server) + PACKAGES
    body += '<repository alias="lab" profiles="Lab"><source path="http://127.0.0.1:9/lab"/></repository>'
    write(recipe, body)
    for name in ("root", "Base", "Lab"):
        (recipe / name / "etc").mkdir(parents=True)
        (recipe / name / f"etc/of-{name}").write_text(name)
    built = Builder(recipe, "dnf4", builds).build()
    assert sorted(path.name for path in (built.root / "etc").glob("of-*")) == ["of-Base", "of-root"]


def test_profile_overlay_keeps_the_package_root(recipe: Path, builds: Path, server: RepositoryServer) -> None:
    """It comes after the packages, like the other overlay."""
    profiles = '<profiles><profile name="Base" description="b" import="true"/></profiles>'
    write(recipe, profiles + PREFERENCES.format(manager="dnf4", types=TBZ) + repository(server) + PACKAGES)
    (recipe / "Base/etc").mkdir(parents=True)
    (recipe / "Base/etc/motd").write_text("one")
    builder = Builder(recipe, "dnf4", builds)
    builder.build(packages="known")
    (recipe / "Base/etc/motd").write_text("two")
    again = builder.build(packages="known")
    assert "using the package root of an earlier build" in again.log
    assert (again.root / "etc/motd").read_text() == "two"
