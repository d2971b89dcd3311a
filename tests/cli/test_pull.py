"""`ims images pull` against a running stack: download, verify and resume."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ims.storage.objects import ObjectName
from tests.cli.conftest import Cli
from tests.service import Service

SIZE = 3_000_000


class Image:
    """An image in S3 whose artifacts are arbitrary bytes."""

    def __init__(self, service: Service, folder: Path, names: tuple[str, ...] = ("rootfs", "kernel")) -> None:
        self.service = service
        self.prefix = f"pull-{uuid4().hex[:8]}"
        self.content = {name: hashlib.shake_128(name.encode()).digest(SIZE) for name in names}
        kinds = {"rootfs": "rootfs.squashfs", "kernel": "kernel"}
        self.artifacts: list[dict[str, Any]] = [
            {
                "type": f"application/vnd.cray.image.{kinds.get(name, name)}",
                "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
                "link": {"type": "s3", "path": str(self.put(folder, name, content))},
            }
            for name, content in self.content.items()
        ]
        self.manifest = {"version": "1.0", "created": "2026-11-23", "artifacts": self.artifacts}
        self.link = ObjectName(service.settings.images_bucket, f"{self.prefix}/manifest.yaml")

    def put(self, folder: Path, name: str, content: bytes) -> ObjectName:
        """Store an artifact in S3."""
        path, place = folder / "upload", ObjectName(self.service.settings.images_bucket, f"{self.prefix}/{name}")
        path.write_bytes(content)
        self.service.store.upload(path, place, {})
        return place

    def register(self) -> dict[str, Any]:
        """Store the manifest in S3 and register the image."""
        self.service.store.write_bytes(self.link, json.dumps(self.manifest).encode())
        return dict(self.service.client.create("images", name=self.prefix, link={"path": str(self.link)}))


@pytest.fixture
def image(service: Service, tmp_path: Path) -> Image:
    """An image with two artifacts. They stay in S3, because its record stays, too: a backup needs both."""
    return Image(service, tmp_path)


def test_pull(cli: Cli, image: Image, tmp_path: Path) -> None:
    """All artifacts and the manifest are downloaded. A second pull changes nothing."""
    image.register()
    there = tmp_path / "a" / "b"
    output = cli.ok("images", "pull", image.prefix, there)
    assert [line.split()[-1] for line in output.splitlines()] == ["verified", "verified"]
    assert {path.name for path in there.iterdir()} == {"rootfs", "kernel", "manifest.yaml"}
    assert all((there / name).read_bytes() == content for name, content in image.content.items())
    assert json.loads((there / "manifest.yaml").read_text()) == image.manifest
    before = (there / "rootfs").stat()
    assert "already" in cli.ok("images", "pull", image.prefix, there)
    assert (there / "rootfs").stat() == before


@pytest.mark.parametrize("there_already", [1, SIZE // 2, SIZE])
def test_resume(cli: Cli, image: Image, tmp_path: Path, there_already: int) -> None:
    """Only the rest of a partial file is downloaded, and the whole file is verified."""
    image.register()
    (tmp_path / "rootfs.partial").write_bytes(image.content["rootfs"][:there_already])
    cli.ok("images", "pull", image.prefix, tmp_path)
    assert (tmp_path / "rootfs").read_bytes() == image.content["rootfs"]
    assert not (tmp_path / "rootfs.partial").exists()


@pytest.mark.parametrize("rest", [b"another image's bytes", b"x" * SIZE, b"x" * (SIZE + 1)], ids=len)
def test_partial_file_of_something_else(cli: Cli, image: Image, tmp_path: Path, rest: bytes) -> None:
    """The checksum reveals a partial file of another image, and the file is downloaded from the start."""
    image.register()
    (tmp_path / "rootfs.partial").write_bytes(rest)
    cli.ok("images", "pull", image.prefix, tmp_path)
    assert (tmp_path / "rootfs").read_bytes() == image.content["rootfs"]


def test_changed_file(cli: Cli, image: Image, tmp_path: Path) -> None:
    """A file with other content is downloaded again."""
    image.register()
    (tmp_path / "kernel").write_bytes(b"old")
    cli.ok("images", "pull", image.prefix, tmp_path)
    assert (tmp_path / "kernel").read_bytes() == image.content["kernel"]


def test_damaged(cli: Cli, image: Image, tmp_path: Path) -> None:
    """A file with a wrong checksum does not get its final name, and the manifest is not written."""
    image.artifacts[1]["md5"] = "0" * 32
    image.register()
    there = tmp_path / "there"
    done = cli.run("images", "pull", image.prefix, there)
    assert done.returncode == 2
    assert "is damaged" in done.stderr
    assert [path.name for path in there.iterdir()] == ["rootfs"]


def test_folder_that_cannot_be_created(cli: Cli, image: Image, tmp_path: Path) -> None:
    """The error is one line with the reason of the operating system."""
    image.register()
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in cli.refused("images", "pull", image.prefix, tmp_path / "file")
