"""`ims images pull --base`: what it takes from the files of another image, with an S3 in memory."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.response import StreamingBody

from ims.cli.pulling import pull
from ims.errors import InputError, UnavailableError
from ims.storage.delta import Delta, DeltaBase, Range, with_ancestors
from ims.storage.manifest import KERNEL, ROOTFS, Artifact, Link, write_manifest
from ims.storage.objects import ObjectStore

NOISE = random.Random(1)  # noqa: S311  (no secret)
SIZE = 1_000_000
TAIL = 4000


class S3:
    """Objects in memory, in the form of a client of boto3. Counts the bytes that are read."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.sent = 0
        self.limit = 10 * SIZE
        """The bytes after which it does not answer any more."""

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        """Describe an object."""
        return {"ContentLength": len(self.objects[f"s3://{Bucket}/{Key}"]), "ETag": '"x-1"', "Metadata": {}}

    def get_object(self, Bucket: str, Key: str, Range: str = "bytes=0-") -> dict[str, Any]:
        """Return a part of an object."""
        data = self.objects[f"s3://{Bucket}/{Key}"]
        start, end = Range.removeprefix("bytes=").split("-")
        part = data[int(start) : int(end) + 1 if end else None]
        self.sent += len(part)
        if self.sent > self.limit:
            raise UnavailableError("S3 does not answer")
        return {"Body": StreamingBody(BytesIO(part), len(part))}


class Image:
    """An image in S3, of which the rootfs may have been made from that of another one."""

    def __init__(self, s3: S3, name: str, parent: Image | None = None) -> None:
        self._s3, self.name = s3, name
        self.delta: Delta | None = None
        self.rootfs, self.kernel = NOISE.randbytes(SIZE), NOISE.randbytes(TAIL)
        if parent is not None:
            kept = SIZE - TAIL
            self.rootfs = NOISE.randbytes(96) + parent.rootfs[96:kept] + NOISE.randbytes(2 * TAIL)
            same = Range(offset=96, length=kept - 96, source_offset=96)
            self.kernel, self.delta = parent.kernel, self.made_from(parent, same)
        self.link = f"s3://boot-images/{name}/manifest.yaml"
        self.write()

    def made_from(self, parent: Image, *ranges: Range) -> Delta:
        """Describe the parent."""
        path = f"s3://boot-images/{parent.name}/rootfs"
        base = DeltaBase(path=path, md5=md5(parent.rootfs), size=len(parent.rootfs), ranges=[*ranges])
        return with_ancestors(len(self.rootfs), base, parent.delta)

    def write(self) -> None:
        """Write all objects."""
        found = []
        for name, kind, data, delta in (
            ("rootfs", ROOTFS, self.rootfs, self.delta),
            ("kernel", KERNEL, self.kernel, None),
        ):
            path = f"s3://boot-images/{self.name}/{name}"
            self._s3.objects[path] = data
            found.append(Artifact(type=kind, md5=md5(data), link=Link(path=path), delta=delta))
        self._s3.objects[self.link] = write_manifest(found).encode()


def md5(data: bytes) -> str:
    """The MD5 in a manifest."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def s3() -> S3:
    """An empty S3."""
    return S3()


class Node:
    """Pulls images to folders."""

    def __init__(self, s3: S3, folder: Path) -> None:
        self._s3, self._folder = s3, folder

    def pull(self, image: Image, base: str | None = None, to: str | None = None) -> int:
        """Pull an image; returns the bytes that S3 sent for its files. Checks the files."""
        target, sent = self._folder / (to or image.name), self._s3.sent
        store = ObjectStore(cast(Any, self._s3))
        pull(store, image.link, target, self._folder / base if base is not None else None)
        assert (target / "rootfs").read_bytes() == image.rootfs
        assert (target / "kernel").read_bytes() == image.kernel
        assert {path.name for path in target.iterdir()} == {"rootfs", "kernel", "manifest.yaml"}
        return self._s3.sent - sent - len(self._s3.objects[image.link])


@pytest.fixture
def node(s3: S3, tmp_path: Path) -> Node:
    """A node without images."""
    return Node(s3, tmp_path)


def family(s3: S3) -> Iterator[Image]:
    """An image, its child, the child of that, and another child of the first."""
    first = Image(s3, "first")
    second = Image(s3, "second", first)
    yield from (first, second, Image(s3, "third", second), Image(s3, "brother", first))


@pytest.mark.parametrize(
    ("base", "wanted", "sent"),
    [("first", 1, 1), ("second", 2, 1), ("first", 2, 2), ("brother", 2, 2), ("brother", 1, 1), ("third", 0, 1)],
)
def test_only_the_rest_is_downloaded(s3: S3, node: Node, base: str, wanted: int, sent: int) -> None:
    """The base may be the parent, an older ancestor, another child of an ancestor, or a descendant."""
    images = list(family(s3))
    node.pull(next(image for image in images if image.name == base))
    assert node.pull(images[wanted], base, "new") <= sent * (2 * TAIL + 96)


def test_folder_is_updated(s3: S3, node: Node) -> None:
    """The folder of the base may be the target."""
    first, second, *_ = family(s3)
    node.pull(first, to="node")
    assert node.pull(second, "node", "node") == 2 * TAIL + 96
    assert node.pull(second, "node", "node") == 0


def damage(path: Path) -> None:
    """Change one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[SIZE // 2] ^= 1
    path.write_bytes(data)


SPOILED = {
    "another content": (damage, "is not the file that the manifest beside it describes"),
    "missing": (Path.unlink, "is not the file"),
    "too short": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is not the file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is not the file"),
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILED.values(), ids=SPOILED)
def test_wrong_base(
    s3: S3, node: Node, tmp_path: Path, spoil: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rootfs is downloaded in full, and the reason is given."""
    first, second, *_ = family(s3)
    node.pull(first)
    spoil(tmp_path / "first" / "rootfs")
    assert node.pull(second, "first") == len(second.rootfs)
    assert f"rootfs is downloaded in full: {tmp_path}/first/rootfs {reason}" in capsys.readouterr().err


def test_unrelated_base(s3: S3, node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """An image that shares nothing is downloaded in full."""
    first, other = Image(s3, "first"), Image(s3, "other")
    node.pull(first)
    assert node.pull(other, "first") == len(other.rootfs) + TAIL
    assert "rootfs is downloaded in full: s3://boot-images/other/rootfs shares no bytes" in capsys.readouterr().err


def test_manifest_that_lies(s3: S3, node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """Ranges that are wrong give the right file, in full: the result is verified as a whole."""
    first, second, *_ = family(s3)
    node.pull(first)
    second.delta = second.made_from(first, Range(offset=0, length=SIZE // 2, source_offset=1))
    second.write()
    assert node.pull(second, "first") >= len(second.rootfs)
    assert "rootfs is downloaded in full: s3://boot-images/second/rootfs is damaged" in capsys.readouterr().err


def test_size_that_is_wrong(s3: S3, node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """A delta of another object is not used."""
    first, second, *_ = family(s3)
    node.pull(first)
    assert second.delta is not None
    second.delta.size += 1
    second.write()
    assert node.pull(second, "first") == len(second.rootfs)
    assert "in full: its manifest lacks its checksum, or says another size than S3" in capsys.readouterr().err


def test_interrupted(s3: S3, node: Node, tmp_path: Path) -> None:
    """Nothing has its final name, and the next call continues."""
    first, second, *_ = family(s3)
    node.pull(first)
    s3.limit = s3.sent + len(s3.objects[second.link]) + 100
    with pytest.raises(UnavailableError):
        node.pull(second, "first")
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["rootfs.partial"]
    s3.limit = 10 * SIZE
    assert node.pull(second, "first") == 2 * TAIL


@pytest.mark.parametrize("content", [None, b"]", b"x" * 1024 * 1024 + b"x"], ids=["none", "damaged", "large"])
def test_base_without_a_manifest(s3: S3, node: Node, tmp_path: Path, content: bytes | None) -> None:
    """The command fails before it makes the target."""
    (tmp_path / "base").mkdir()
    if content is not None:
        (tmp_path / "base" / "manifest.yaml").write_bytes(content)
    with pytest.raises(InputError, match="manifest"):
        node.pull(Image(s3, "first"), "base")
    assert not (tmp_path / "first").exists()
