"""Images and changes that are packed in full, each with its reason."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ims.images.squashfs.image import Image
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.rules import check_base, check_layer, check_size
from ims.images.squashfs.superblock import SpliceError
from ims.images.squashfs.upper import opaque_folders
from tests.images.squashfs.overlays import ZSTD, changed, pack, spliced
from tests.images.squashfs.trees import noise

pytestmark = pytest.mark.system

LEVEL, BLOCK_SIZE = 3, 128 * 1024


def refusal(base: Path, level: int = LEVEL, block_size: int = BLOCK_SIZE, **names: set[bytes]) -> str:
    """Why a squashfs is not spliced."""
    with open_reader(base) as reader, pytest.raises(SpliceError) as caught:
        check_base(Image(reader), level, block_size, names.get("empty", set()), names.get("absent", set()))
    return str(caught.value)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A tree that is worth to be spliced."""
    (tmp_path / "tree/tmp").mkdir(parents=True)
    (tmp_path / "tree/data").write_bytes(noise(11 * 1024**2))
    (tmp_path / "tree/tmp/left").write_text("x")
    return tmp_path / "tree"


def test_image_that_is_spliced(large: Path, tmp_path: Path) -> None:
    """It has enough data. If it is compressed with zstd, it has the level and the block size of full packing."""
    for name, compressor in {"zstd": ZSTD, "gzip": ("-comp", "gzip", "-Xcompression-level", "1")}.items():
        with open_reader(pack(large, tmp_path / name, compressor=compressor)) as reader:
            check_base(Image(reader), LEVEL, BLOCK_SIZE, {b"run"}, {b"image"})


def test_images_that_are_not_spliced(large: Path, tmp_path: Path) -> None:
    """The error says why."""
    packed = pack(large, tmp_path / "base")
    assert refusal(pack(large / "tmp", tmp_path / "small")).startswith("its data have ")
    assert refusal(packed, level=6) == "its compression level is 3, its block size 131072, not 6 and 131072"
    assert refusal(packed, empty={b"tmp"}) == "it has files in /tmp that are not part of images"
    assert refusal(packed, absent={b"data"}) == "it has files in /data that are not part of images"
    for name in ("lz4", "lzo", "lzma"):
        image = pack(large, tmp_path / name, compressor=("-comp", name))
        assert refusal(image) == f"it is not compressed with zstd, xz or gzip (its compressor is {name})"


def test_large_layer_is_not_spliced(large: Path, tmp_path: Path) -> None:
    """Full packing saves space."""
    packed = pack(large, tmp_path / "base")
    with open_reader(packed) as reader, open_reader(packed) as layer_reader:
        old, layer = Image(reader), Image(layer_reader)
        with pytest.raises(SpliceError, match="the changes have "):
            check_layer(old, layer)


def test_garbage_is_packed_away(large: Path, tmp_path: Path) -> None:
    """An image with much data that no file refers to is not spliced again."""
    (large / "second").write_bytes(noise(11 * 1024**2, 2))
    base = pack(large, tmp_path / "base")
    layer, opaque, _ = changed(base, tmp_path, lambda root: (root / "second").unlink())
    new = spliced(base, layer, tmp_path / "new", opaque)
    assert "are no longer in use" in refusal(new)


def test_small_image_is_not_spliced(tmp_path: Path) -> None:
    """It is refused before anything of it is read."""
    (tmp_path / "small").write_bytes(b"no squashfs")
    with open_reader(tmp_path / "small") as reader, pytest.raises(SpliceError, match="it has 11 bytes, fewer than "):
        check_size(reader)


def test_files_that_an_overlay_cannot_show(large: Path, tmp_path: Path) -> None:
    """A device with the number 0:0 hides a file, and no box can pack attributes with the prefix trusted."""
    os.mknod(large / "data0", stat.S_IFCHR, os.makedev(0, 0))
    assert refusal(pack(large, tmp_path / "device")) == "it has a device with the number 0:0"
    os.setxattr(large / "data", "trusted.note", b"x")
    assert refusal(pack(large, tmp_path / "trusted")) == "it has attributes with the prefix trusted"


def test_more_owners_than_files(tmp_path: Path) -> None:
    """unsquashfs refuses an image with more than two owners a file."""
    (tmp_path / "tree/folder").mkdir(parents=True)
    (tmp_path / "layer/folder").mkdir(parents=True)
    os.chown(tmp_path / "layer", 11, 12)
    os.chown(tmp_path / "layer/folder", 13, 14)
    base, layer = pack(tmp_path / "tree", tmp_path / "base"), pack(tmp_path / "layer", tmp_path / "packed")
    with pytest.raises(SpliceError, match="it would have 2 files and 5 owners"):
        spliced(base, layer, tmp_path / "new")


ATTRIBUTES = {
    ("trusted.overlay.redirect", b"/home"): "the overlay has the attribute trusted.overlay.redirect",
    ("trusted.overlay.metacopy", b""): "the overlay has the attribute trusted.overlay.metacopy",
    ("trusted.overlay.opaque", b"x"): "the overlay has an unknown kind of opaque folder",
}


@pytest.mark.parametrize(("attribute", "reason"), ATTRIBUTES.items())
def test_overlays_that_refer_to_the_base(tmp_path: Path, attribute: tuple[str, bytes], reason: str) -> None:
    """The layer would not contain all changes."""
    (tmp_path / "upper/folder").mkdir(parents=True)
    os.setxattr(tmp_path / "upper/folder", *attribute)
    with pytest.raises(SpliceError, match=reason):
        opaque_folders(tmp_path)


def test_other_compression_of_the_layer(large: Path, tmp_path: Path) -> None:
    """Blocks of two compressors or of two sizes cannot be in one squashfs."""
    base = pack(large, tmp_path / "base")
    for options in (("-comp", "gzip"), ("-comp", "zstd", "-b", "64K")):
        with pytest.raises(SpliceError, match="packed with another compression or block size"):
            spliced(base, pack(large / "tmp", tmp_path / "layer", compressor=options), tmp_path / "new")
