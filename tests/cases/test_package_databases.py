"""Package databases of all distributions. What cannot be read is unknown, in the inventory, the SBOM and the plan."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ims.images import ndb, packages, rpm
from ims.images.inventory import read_inventory
from ims.images.packages import installed_packages
from ims.images.root import UnreadableError
from ims.images.sbom import read_sbom, write_sbom
from tests.images.rpm_databases import FORMATS, NAMES, build_packages, make_database

pytestmark = pytest.mark.system

SUSE = "usr/lib/sysimage/rpm"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three packages."""
    return build_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module", params=FORMATS)
def database(built: Sequence[Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The file of a database with the packages, in each format."""
    return make_database(tmp_path_factory.mktemp(request.param) / "database", request.param, built)


@pytest.fixture(scope="module")
def ndb_file(built: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a database with the packages, as SUSE's rpm writes it."""
    return make_database(tmp_path_factory.mktemp("ndb") / "database", "ndb", built)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root without a database."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def put(root: Path, database: Path, folder: str = SUSE) -> Path:
    """Copy a database with all its files into an image root; returns its file there."""
    shutil.copytree(database.parent, root / folder)
    return root / folder / database.name


@pytest.mark.parametrize("folder", rpm.FOLDERS)
def test_all_formats(database: Path, root: Path, folder: str) -> None:
    """The packages of sqlite, ndb and bdb are read in every place, and nothing is changed."""
    copy = put(root, database, folder)
    before = {path.name: path.read_bytes() for path in copy.parent.iterdir()}
    assert installed_packages(root) == NAMES
    assert {path.name: path.read_bytes() for path in copy.parent.iterdir()} == before


def test_old_place_is_a_link(ndb_file: Path, root: Path) -> None:
    """SUSE's /var/lib/rpm is a link to the database, which is read once."""
    put(root, ndb_file)
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")
    assert installed_packages(root) == NAMES


def test_new_place_without_a_database(database: Path, root: Path) -> None:
    """A folder that has a lock and an empty file hides no database in the other place."""
    put(root, database, "var/lib/rpm")
    (root / SUSE).mkdir(parents=True)
    (root / SUSE / ".rpm.lock").touch()
    (root / SUSE / "Packages").touch()
    assert installed_packages(root) == NAMES


def test_sbom_of_ndb(ndb_file: Path, root: Path) -> None:
    """The SBOM of an image like SUSE's lists its packages."""
    put(root, ndb_file)
    found = read_sbom(write_sbom(read_inventory(root)).encode(), "x").packages
    assert [package.name for package in found or ()] == ["munge", "openssl", "sysroot"]


def assert_unknown(root: Path, reason: str) -> None:
    """The packages of an image root are unknown, also in its SBOM, which is valid and names the reason."""
    found = read_inventory(root)
    assert found.packages is None
    assert reason in found.unknown
    text = write_sbom(found)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    read = read_sbom(text.encode(), "x")
    assert (read.packages, read.unknown) == (None, found.unknown)
    with pytest.raises(UnreadableError):
        installed_packages(root)


def test_no_database(root: Path) -> None:
    """An image that no package manager installed has unknown packages, not none."""
    assert_unknown(root, "no package database")


def cut(data: bytes) -> bytes:
    """The first part of a file."""
    return data[: len(data) * 2 // 3]


def overwrite(data: bytes) -> bytes:
    """A file whose second half was overwritten."""
    return data[: len(data) // 2] + b"\x5a" * (len(data) - len(data) // 2)


@pytest.mark.parametrize("damage", [cut, overwrite, lambda _data: b"no database" * 1000], ids=["cut", "half", "other"])
def test_damaged_database(database: Path, root: Path, damage: Callable[[bytes], bytes]) -> None:
    """Nothing is guessed from what is left of a database."""
    copy = put(root, database)
    for path in copy.parent.glob(f"{copy.name}-*"):
        path.unlink()
    copy.write_bytes(damage(copy.read_bytes()))
    assert_unknown(root, "of rpm in /usr/lib/sysimage/rpm cannot be read")


def test_damaged_package(ndb_file: Path, root: Path) -> None:
    """A package whose checksum is right and whose header is not is not left out silently."""
    copy = put(root, ndb_file)
    data = bytearray(copy.read_bytes())
    start = data.index(b"BlbS")
    end = data.index(b"BlbE") + 4
    data[start + 40 : start + 80] = bytes(40)
    data[end - 12 : end - 8] = zlib.adler32(data[start : end - 12]).to_bytes(4, "little")
    copy.write_bytes(data)
    assert_unknown(root, "skipping")


def test_two_databases(database: Path, ndb_file: Path, root: Path) -> None:
    """It is unknown which one is right, for example if a machine's rpm left a second one beside that of the image."""
    put(root, ndb_file)
    put(root, database, "var/lib/rpm")
    assert_unknown(root, "several databases of rpm")


@pytest.mark.parametrize("name", [f"{SUSE}/Packages.db", packages.DPKG])
def test_pipe_in_place_of_a_database(root: Path, name: str) -> None:
    """Nothing waits for a pipe."""
    (root / name).parent.mkdir(parents=True)
    os.mkfifo(root / name)
    assert_unknown(root, "is not a file")


def test_unreadable_beside_readable(ndb_file: Path, root: Path) -> None:
    """If one of two package managers cannot be read, the packages of the image are unknown."""
    copy = put(root, ndb_file)
    copy.write_bytes(cut(copy.read_bytes()))
    (root / packages.DPKG).parent.mkdir(parents=True)
    (root / packages.DPKG).write_text("Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n")
    assert_unknown(root, "ndb")


@pytest.mark.parametrize(
    "text", ["Status: install ok installed\nVersion: 1\n", "Package: a\nStatus: install ok installed\n", "\0\1\2"]
)
def test_damaged_dpkg(root: Path, text: str) -> None:
    """A paragraph without a name, or of an installed package without a version, is damage."""
    (root / packages.DPKG).parent.mkdir(parents=True)
    (root / packages.DPKG).write_text(text)
    assert_unknown(root, "is damaged")


def test_too_large(ndb_file: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files over the limits are not read."""
    put(root, ndb_file)
    monkeypatch.setattr(rpm, "MAX_DATABASE", 1000)
    assert_unknown(root, "more than 1000")
    monkeypatch.setattr(packages, "MAX_STATUS", 2)
    shutil.rmtree(root / SUSE)
    (root / packages.DPKG).parent.mkdir(parents=True)
    (root / packages.DPKG).write_text("Package: a\n")
    assert_unknown(root, "more than 2")


@pytest.mark.parametrize("pages", [0, 1000, 2**32 - 1])
def test_ndb_with_impossible_slots(ndb_file: Path, tmp_path: Path, pages: int) -> None:
    """The number of pages that the header states is checked."""
    data = bytearray(ndb_file.read_bytes())
    data[12:16] = pages.to_bytes(4, "little")
    (tmp_path / "Packages.db").write_bytes(data)
    with pytest.raises(UnreadableError, match="pages of slots"):
        list(ndb.read_headers(tmp_path / "Packages.db"))


def test_ndb_bomb(ndb_file: Path, tmp_path: Path) -> None:
    """All slots name the same package: a small file cannot become a large database."""
    data = bytearray(ndb_file.read_bytes())
    for place in range(48, 4096, 16):
        data[place : place + 16] = data[32:48]
    (tmp_path / "Packages.db").write_bytes(data)
    with pytest.raises(UnreadableError, match="overlap"):
        list(ndb.read_headers(tmp_path / "Packages.db"))
