"""`ims images capture` with archives that a job wrote, and with those that an attacker wrote."""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

import ims.cli.s3
from ims.images.capture.capture import Captured, write_archive
from ims.images.capture.files import Entry
from ims.images.capture.script import LeftOut
from ims.storage.digests import digest_file
from ims.storage.manifest import CAPTURE
from ims.storage.objects import ObjectName, StoredObject
from tests.cli.fake_service import FakeService, Program, connect_to

MANIFEST = "s3://boot-images/x/manifest.yaml"
ARCHIVE = "s3://boot-images/x/capture.tar.gz"


class Store:
    """Has the manifest of an image and the archive of its changes."""

    def __init__(self, archive: Path, kind: str) -> None:
        self.archive = archive
        artifact = {"type": kind, "md5": digest_file(archive).md5, "link": {"type": "s3", "path": ARCHIVE}}
        self.manifest = json.dumps({"version": "1.0", "artifacts": [artifact]}).encode()

    def read_bytes(self, _name: ObjectName, **_limit: int) -> bytes:
        """Return the manifest."""
        return self.manifest

    def stat(self, _name: ObjectName) -> StoredObject:
        """Return the size of the archive."""
        return StoredObject(self.archive.stat().st_size, "an-etag", {})

    def resume(self, _name: ObjectName, path: Path, _md5: str) -> None:
        """Download the archive."""
        path.write_bytes(self.archive.read_bytes())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive as a job writes it, with a program that has the rights of its owner."""
    path = tmp_path / "capture.tar.gz"
    program = Entry("/usr/bin/tool", "file", "4755", "0:0", content=b"x")
    write_archive(Captured("#!/bin/sh\n", [program], [LeftOut("/etc/shadow", "a secret\x1b[2J")]), path)
    return path


@pytest.fixture
def fake() -> FakeService:
    """A service with one image."""
    fake = FakeService()
    fake.add("images", "my-image", link={"type": "s3", "path": MANIFEST}, source_image_id="the-parent")
    return fake


@pytest.fixture
def program(fake: FakeService, archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program in an empty folder."""
    found = connect_to(fake, monkeypatch, tmp_path)
    serve(monkeypatch, archive)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return found


def serve(monkeypatch: pytest.MonkeyPatch, archive: Path, kind: str = CAPTURE) -> None:
    """Let the store have an archive."""
    monkeypatch.setattr(ims.cli.s3, "store", lambda _client: Store(archive, kind))


def test_capture(program: Program) -> None:
    """The folder is named after the image and private. No program in it has the rights of its owner."""
    done = program.run("images", "capture", "my-image")
    assert (done.code, done.stdout) == (0, "/etc/shadow: a secret\\x1b[2J\n")
    assert "--artifact-id the-parent --script my-image/customize.sh" in done.stderr
    folder = Path("my-image")
    assert sorted(path.name for path in folder.iterdir()) == ["NOT-CAPTURED.txt", "customize.sh", "root", "site.yml"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "root/usr/bin/tool").stat().st_mode) == 0o755


def test_long_script(program: Program, tmp_path: Path) -> None:
    """A script that is too long for a job is run by the playbook."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path / "long.tar.gz"
        write_archive(Captured("#!/bin/sh\n" + "#" * 8192), path)
        serve(patch, path)
        done = program.run("images", "capture", "my-image", "a folder")
    assert "tar -C 'a folder' -czf playbook.tar.gz site.yml customize.sh" in done.stderr
    assert "--playbook s3://ims/playbook.tar.gz" in done.stderr


def test_existing_folder(program: Program, tmp_path: Path) -> None:
    """An empty folder is used; files, links and other folders are not touched."""
    for name in ("full", "empty"):
        Path(name).mkdir()
    Path("full/file").touch()
    Path("file").touch()
    Path("link").symlink_to("empty")
    for name in ("full", "file", "link"):
        assert f"{name} already exists" in program.refused("images", "capture", "my-image", name)
    assert program.run("images", "capture", "my-image", "empty").code == 0


@pytest.mark.parametrize("name", ["../my-image", "/tmp/x", ".ssh", "a b", ""])
def test_names_that_are_no_folders(program: Program, fake: FakeService, name: str) -> None:
    """The name of an image does not choose a folder outside of the current one."""
    identity = fake.add("images", name, link={"type": "s3", "path": MANIFEST}, source_image_id=None)
    assert "Give a folder" in program.refused("images", "capture", identity)
    assert list(Path.cwd().iterdir()) == []


def test_image_without_recorded_changes(program: Program, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that was built, or customized by an older version, has no script."""
    serve(monkeypatch, archive, "application/other")
    assert "no changes are recorded" in program.refused("images", "capture", "my-image")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    "member",
    [
        {"name": "../out"},
        {"name": "/tmp/out"},
        {"name": "out", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "customize.sh", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "root/device", "type": tarfile.CHRTYPE},
        {"name": "root/other"},
    ],
    ids=str,
)
def test_hostile_archive(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: dict[str, Any]
) -> None:
    """An archive that no job writes is refused, and nothing is left of it."""
    hostile = tmp_path / "hostile.tar.gz"
    with gzip.open(hostile, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo()
        for key, value in member.items():
            setattr(entry, key, value)
        tar.addfile(entry, io.BytesIO())
    serve(monkeypatch, hostile)
    assert program.refused("images", "capture", "my-image")
    assert list(Path.cwd().iterdir()) == []
    assert not (tmp_path / "out").exists()
