"""The inventory of an image: packages in real databases of dpkg and rpm, kernels, the SBOM, the list of files."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ims.errors import InputError
from ims.images import files, sbom
from ims.images.files import read_lines, write_files
from ims.images.inventory import Inventory, read_inventory
from ims.images.packages import MAX_COPYRIGHT, Package, read_packages
from ims.images.sbom import read_sbom, write_sbom

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-2+
 The licence's text, in which stands
 License: none

Files: debian/*
License:  Expat

License: GPL-2+
"""
PACKAGES = [
    Package("bash", "5.2.15-2+b7", "amd64", "deb", "bash", "GPL-3+"),
    Package("kernel-default", "1:6.4.0-150600.21", "x86_64", "rpm", "kernel-source", "GPL-2.0-only OR MIT"),
    Package("kernel-default", "1:6.4.0-150600.22", "x86_64", "rpm", "kernel-source", "GPL-2.0-only OR MIT"),
    Package("libstdc++6", "12~rc1-14", "amd64", "deb", "gcc-12", "MIT"),
    Package("odd", "é 1:2^3~", "arm64", "deb"),
]
HOLDS = Inventory(PACKAGES, ["6.4.0-150600.21-default"], "sles", "15.6")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty image root."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def write(root: Path, **contents: str) -> None:
    """Write files below a root. In their names, `__` stands for a slash and `_` for a dash."""
    for key, content in contents.items():
        path = root / key.replace("__", "/").replace("_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def install_deb(root: Path, folder: Path, control: str) -> None:
    """Build a package with Debian's tools and install it into a root."""
    built = folder / "deb"
    write(built, DEBIAN__control=f"{control}Maintainer: nobody <a@example.org>\nDescription: for tests\n")
    archive = folder / "package.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", built, archive], check=True, capture_output=True)
    (root / "var/lib/dpkg/info").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/updates").mkdir(exist_ok=True)
    (root / "var/lib/dpkg/status").touch()
    install = ["dpkg", f"--root={root}", "--force-all", f"--log={folder / 'log'}", "--install", str(archive)]
    subprocess.run(install, check=True, capture_output=True)


def install_rpm(root: Path, folder: Path, head: str) -> None:
    """Build a package with rpmbuild and add it to the database of a root."""
    spec = folder / "p.spec"
    spec.write_text(f"{head}Summary: s\n%description\nd\n%files\n")
    subprocess.run(["rpmbuild", "-bb", "--quiet", "-D", f"_topdir {folder}", spec], check=True, capture_output=True)
    database = root / "usr/lib/sysimage/rpm"
    database.mkdir(parents=True, exist_ok=True)
    for built in folder.glob("RPMS/*/*.rpm"):
        command = ["rpm", f"--dbpath={database}", "--install", "--justdb", "--nodeps", "--nosignature", str(built)]
        subprocess.run(command, check=True, capture_output=True)
        built.unlink()


@pytest.mark.system
def test_dpkg(root: Path, tmp_path: Path) -> None:
    """Epoch, source and license. A package with only its configuration left is not installed."""
    control = "Package: tiny\nSource: small (0.9)\nVersion: 2:1.0~rc1-3+b1\nArchitecture: all\n"
    install_deb(root, tmp_path, control)
    write(root, usr__share__doc__tiny__copyright=COPYRIGHT)
    status = root / "var/lib/dpkg/status"
    removed = "\nPackage: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n"
    status.write_text(status.read_text() + removed)
    assert read_packages(root) == [Package("tiny", "2:1.0~rc1-3+b1", "all", "deb", "small", "GPL-2+, Expat")]


@pytest.mark.system
@pytest.mark.parametrize(
    "text",
    [COPYRIGHT.partition("\n")[2], "", "License: MIT\n", "Format: x\n" + " " * MAX_COPYRIGHT + "\nLicense: MIT\n"],
    ids=["no format", "empty", "text", "too long"],
)
def test_license_is_not_guessed(root: Path, tmp_path: Path, text: str) -> None:
    """Files that are not machine-readable have no license. Long texts are cut."""
    install_deb(root, tmp_path, "Package: tiny\nVersion: 1\nArchitecture: all\n")
    write(root, usr__share__doc__tiny__copyright=text)
    assert read_packages(root)[0].license == ""


@pytest.mark.system
def test_files_of_the_host_are_not_read(root: Path, tmp_path: Path) -> None:
    """Links refer to files of the image. Pipes and folders in place of files are skipped."""
    install_deb(root, tmp_path, "Package: tiny\nVersion: 1\nArchitecture: all\n")
    (tmp_path / "copyright").write_text(COPYRIGHT)
    folder = root / "usr/share/doc/tiny"
    folder.mkdir(parents=True)
    (folder / "copyright").symlink_to(tmp_path / "copyright")
    assert read_packages(root)[0].license == ""
    (folder / "copyright").unlink()
    os.mkfifo(folder / "copyright")
    (root / "etc").mkdir(exist_ok=True)
    os.mkfifo(root / "etc/os-release")
    (root / "usr/lib").mkdir()
    (root / "usr/lib/modules").write_text("a file")
    (root / "var/lib/rpm").write_text("a file")
    found = read_inventory(root)
    assert [package.license for package in found.packages or ()] == [""]
    assert (found.system, found.kernels) == ("", [])


@pytest.mark.system
def test_rpm(root: Path, tmp_path: Path) -> None:
    """Epoch, release, source and license. Two versions of a package count as two packages."""
    head = "Name: tiny\nVersion: 1.5\nRelease: {}\nEpoch: 3\nLicense: MIT AND Zlib\nBuildArch: noarch\n"
    for release in ("2", "3~rc1"):
        install_rpm(root, tmp_path, head.format(release))
    assert read_packages(root) == [
        Package("tiny", f"3:1.5-{release}", "noarch", "rpm", "tiny", "MIT AND Zlib") for release in ("2", "3~rc1")
    ]


def test_empty_image_root(root: Path) -> None:
    """An image without any files has no kernels, and unknown packages."""
    assert read_inventory(root) == Inventory(None, unknown="the image has no package database of dpkg or rpm")


def test_system_and_kernels(root: Path) -> None:
    """From os-release and the folders of kernel modules, where /lib is a link."""
    for version in ("6.1.0-40-amd64", "5.14.0"):
        (root / "usr/lib/modules" / version).mkdir(parents=True)
    (root / "usr/lib/modules/README").touch()
    (root / "lib").symlink_to("usr/lib")
    write(root, etc__os_release='ID="debian"\nVERSION_ID=\'12\'\nNAME="two words"\n')
    found = read_inventory(root)
    assert found.kernels == ["5.14.0", "6.1.0-40-amd64"]
    assert (found.system, found.system_version) == ("debian", "12")


# The SBOM


def test_sbom() -> None:
    """It is valid CycloneDX, always the same, and gives back the inventory."""
    text = write_sbom(HOLDS)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert write_sbom(Inventory([*reversed(PACKAGES)], HOLDS.kernels, "sles", "15.6")) == text
    assert read_sbom(text.encode(), "x") == Inventory(HOLDS.packages, HOLDS.kernels)
    assert "timestamp" not in text
    assert write_sbom(Inventory()) != text
    parts = {part["purl"]: part for part in json.loads(text)["components"]}
    purl = "pkg:rpm/sles/kernel-default@6.4.0-150600.22?arch=x86_64&distro=sles-15.6&epoch=1"
    assert parts[purl]["licenses"] == [{"expression": "GPL-2.0-only OR MIT"}]
    assert "pkg:deb/sles/libstdc%2B%2B6@12~rc1-14?arch=amd64&distro=sles-15.6" in parts


def test_empty_sbom() -> None:
    """An image without packages has a valid SBOM."""
    text = write_sbom(Inventory())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert read_sbom(text.encode(), "x") == Inventory()


def bom(*components: Any, **more: Any) -> bytes:
    """An SBOM as another program may write it."""
    return json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": components, **more}).encode()


def test_sbom_of_another_tool() -> None:
    """Packages of rpm and deb are recognized by their package URLs. Everything else is skipped."""
    found = read_sbom(
        bom(
            {"type": "library", "name": "a", "version": "1-1", "purl": "pkg:rpm/x/a@1-1?arch=noarch&upstream=b"},
            {"type": "library", "name": "a", "version": "1-1", "purl": "pkg:rpm/x/a@1-1?arch=noarch", "bom-ref": "2"},
            {"type": "library", "name": "b", "purl": "pkg:deb/x/b"},
            {"type": "library", "name": "c", "version": "1", "purl": "pkg:npm/c@1", "licenses": [{"license": {}}]},
            {"type": "file", "name": "/etc/motd"},
            {"type": "library", "name": "d", "version": "1", "purl": "no URL"},
        ),
        "x",
    )
    assert found == Inventory([Package("a", "1-1", "noarch", "rpm")])


BAD = {
    "empty": b"",
    "not text": b"\xff\xfe",
    "a list": b"[]",
    "another format": b'{"spdxVersion": "SPDX-2.3"}',
    "nested too deep": b'{"components":' + b"[" * 100_000,
    "NUL": bom({"name": "a\0", "version": "1", "purl": "pkg:deb/x/a@1"}),
    "name missing": bom({"version": "1"}),
    "name too long": bom({"name": "a" * 256}),
    "version a number": bom({"name": "a", "version": 1}),
    "components no list": json.dumps({"bomFormat": "CycloneDX", "components": {"a": 1}}).encode(),
    "kernel too long": bom(metadata={"properties": [{"name": "ims:kernel", "value": "6" * 256}]}),
    "too many kernels": bom(metadata={"properties": [{"name": "ims:kernel", "value": str(n)} for n in range(101)]}),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bad_sbom(data: bytes) -> None:
    """The error names the SBOM."""
    with pytest.raises(InputError, match="the SBOM s3://b/sbom"):
        read_sbom(data, "s3://b/sbom")


def test_too_many_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit that is higher than any real system needs."""
    monkeypatch.setattr(sbom, "MAX_PACKAGES", 4)
    with pytest.raises(InputError, match="5 packages, more than 4"):
        read_sbom(write_sbom(HOLDS).encode(), "x")


# The list of files


@pytest.mark.system
def test_files(root: Path, tmp_path: Path) -> None:
    """Every type of file, folders before their content. Files that are not packed are not listed."""
    write(root, etc__motd="hello", etc__a__b="", etc__a_c="", image__config="kiwi's", tmp__left="x", usr__tmp__kept="x")
    os.chown(root / "etc/motd", 12, 34)
    (root / "etc/motd").chmod(0o4755)
    (root / "etc/link").symlink_to("/run/x")
    (root / os.fsdecode(b"etc/\xff")).touch()
    os.mknod(root / "etc/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(root / "etc/pipe")
    write_files(root, tmp_path / "list", ("image",))
    write_files(root, tmp_path / "again", ("image",))
    assert (tmp_path / "list").read_bytes() == (tmp_path / "again").read_bytes()
    with gzip.open(tmp_path / "list", "rt") as lines:
        found = {entry.pop("path"): entry for entry in map(json.loads, lines)}
    assert list(found) == [
        *("/etc", "/etc/\\xff", "/etc/a", "/etc/a/b", "/etc/a-c", "/etc/link", "/etc/motd", "/etc/null", "/etc/pipe"),
        *("/tmp", "/usr", "/usr/tmp", "/usr/tmp/kept"),
    ]
    assert found["/etc/motd"] == {
        **{"type": "file", "mode": "4755", "uid": 12, "gid": 34, "size": 5},
        "sha256": hashlib.sha256(b"hello").hexdigest(),
    }
    assert (found["/etc/link"]["type"], found["/etc/link"]["target"]) == ("link", "/run/x")
    assert (found["/etc/null"]["type"], found["/etc/null"]["target"]) == ("character device", "1:3")
    assert found["/etc/pipe"]["type"] == "pipe"
    first = next(read_lines([(tmp_path / "list").read_bytes()], "x"))
    assert first.startswith(b'{"path":"/etc","type":"folder"')


def test_bad_list_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is damaged, incomplete, without line ends, or too long."""
    packed = gzip.compress(b"a\n" * 100_000)
    assert len(list(read_lines([packed[:50], packed[50:]], "x"))) == 100_000
    for data in (b"", b"no gzip", packed[:-9], gzip.compress(b"x" * 1_000_000)):
        with pytest.raises(InputError, match="the list of files x"):
            list(read_lines([data], "x"))
    monkeypatch.setattr(files, "MAX_BYTES", 100_000)
    with pytest.raises(InputError, match="too long"):
        list(read_lines([packed], "x"))
