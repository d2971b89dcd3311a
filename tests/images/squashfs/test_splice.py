"""Splicing, against the kernel's view of an overlay, the real mksquashfs and the real unsquashfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ims.images.squashfs.image import Image
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.rules import check_base, check_layer
from ims.images.squashfs.superblock import SpliceError
from tests.images.squashfs.overlays import ZSTD, Snapshot, changed, check, pack, spliced
from tests.images.squashfs.trees import CHANGES, LINK_CHANGES, Change, change_much, noise, write_tree

pytestmark = pytest.mark.system

LEVEL, BLOCK_SIZE = 3, 128 * 1024
OPTIONS = {
    "without attributes": ("-no-xattrs",),
    "small blocks": ("-b", "4K"),
    "large blocks without fragments": ("-b", "1M", "-no-fragments"),
    "tables that are not compressed": ("-noI", "-noX"),
    "nothing compressed": ("-noI", "-noId", "-noD", "-noF", "-noX"),
    "without an export table": ("-no-exports", "-no-duplicates", "-always-use-fragments"),
}
XZ_OF_KIWI = ("-comp", "xz", "-Xbcj", "x86", "-b", "1M")
COMPRESSORS = {
    "gzip": ("-comp", "gzip", "-no-exports"),
    "gzip with options": ("-comp", "gzip", "-Xcompression-level", "3", "-Xwindow-size", "9", "-Xstrategy", "filtered"),
    "xz": ("-comp", "xz", "-noI"),
    "xz of small blocks": ("-comp", "xz", "-b", "4K"),
    "xz of kiwi": XZ_OF_KIWI,
    "xz with a small dictionary": (*XZ_OF_KIWI, "-Xdict-size", "16K"),
    "zstd without options": ("-comp", "zstd"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with everything."""
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder / "tree")
    return folder / "tree"


@pytest.fixture(scope="module")
def base(tree: Path) -> Path:
    """The squashfs of the tree."""
    return pack(tree, tree.with_name("base"))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes(base: Path, tmp_path: Path, change: Change) -> None:
    """The new squashfs has the tree that the overlay showed."""
    layer, opaque, shown = changed(base, tmp_path, change)
    check(spliced(base, layer, tmp_path / "new", opaque), shown, tmp_path)


@pytest.mark.parametrize("change", LINK_CHANGES, ids=lambda change: change.__name__)
def test_files_with_several_names(base: Path, tmp_path: Path, change: Change) -> None:
    """The names that were not changed show what the overlay showed, and count what is left of them."""
    layer, opaque, shown = changed(base, tmp_path, change)
    check(spliced(base, layer, tmp_path / "new", opaque), shown, tmp_path)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_mksquashfs(tree: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Images with other block sizes, and without attributes."""
    base = pack(tree, tmp_path / "base", *options)
    layer, opaque, shown = changed(base, tmp_path, change_much)
    check(spliced(base, layer, tmp_path / "new", opaque), shown, tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tree with blocks, fragments, attributes and a listing that needs two blocks."""
    root = tmp_path_factory.mktemp("small") / "tree"
    (root / "many").mkdir(parents=True)
    for number in range(400):
        (root / f"many/file-number-{number}").write_text(f"{number}\n" * number)
    for name, size in {"a": 1_200_000, "b": 70_000}.items():
        (root / name).write_bytes(noise(size // 2).hex().encode())
        os.setxattr(root / name, "user.note", name.encode())
    return root


def change_small(number: int) -> Change:
    """A change of the small tree."""

    def change(root: Path) -> None:
        (root / f"many/file-number-{number}").unlink()
        (root / f"many/file-number-{number + 9}").write_text("changed")
        (root / f"many/added{number}").write_bytes(noise(600_000, number).hex().encode())
        (root / f"many/below{number}").mkdir()
        os.setxattr(root / "b", "user.note", b"changed")

    return change


@pytest.mark.parametrize("compressor", COMPRESSORS.values(), ids=COMPRESSORS)
def test_compressors(small: Path, tmp_path: Path, compressor: tuple[str, ...]) -> None:
    """The layer is packed as the base was, and its tables as well. Another layer is put on the result."""
    current = pack(small, tmp_path / "base", compressor=compressor)
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        layer, opaque, shown = changed(current, folder, change_small(number))
        current = spliced(current, layer, folder / "new", opaque)
        check(current, shown, folder)


def test_dictionary_is_not_larger_than_that_of_the_base(tree: Path, tmp_path: Path) -> None:
    """The kernel reserves a dictionary of the size that the base says, and could not read a block with a larger one."""
    less, more = (
        pack(tree / "etc", tmp_path / size, compressor=("-comp", "xz", "-b", "1M", "-Xdict-size", size))
        for size in ("16K", "64K")
    )
    assert spliced(more, less, tmp_path / "new").exists()
    with pytest.raises(SpliceError, match="packed with another compression or block size"):
        spliced(less, more, tmp_path / "other")


def change_number(number: int) -> Change:
    """The change of one of several splices: it adds, replaces and removes, also what an earlier one added."""

    def change(root: Path) -> None:
        (root / "etc/passwd").write_text(f"{number}\n")
        (root / f"usr/lib/added{number}/deep").mkdir(parents=True)
        (root / f"usr/lib/added{number}/deep/file").write_bytes(noise(100_000, number))
        (root / f"usr/lib/x/f{number}").unlink()
        (root / f"usr/lib/x/f{number + 11}").write_bytes(noise(1000 * number + 1, number))
        if number:
            (root / f"usr/lib/added{number - 1}/deep/file").write_text("changed")
        if number > 1:
            (root / f"usr/lib/added{number - 2}/deep/file").rename(root / f"home/moved{number}")
            (root / f"usr/lib/added{number - 2}/deep").rmdir()

    return change


def test_ten_splices_in_a_row(base: Path, tmp_path: Path) -> None:
    """Each is the base of the next one. The last has the tree that the overlay showed."""
    current, shown = base, Snapshot()
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        layer, opaque, shown = changed(current, folder, change_number(number))
        current = spliced(current, layer, folder / "new", opaque)
        with open_reader(current) as reader:
            assert sum(1 for _ in Image(reader).walk(Image(reader).root))
    check(current, shown, tmp_path)


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
    assert refusal(packed, level=6) == "its compression level is 3, its block size 131072"
    assert refusal(packed, empty={b"tmp"}) == "it has files in /tmp that are not part of images"
    assert refusal(packed, absent={b"data"}) == "it has files in /data that are not part of images"
    for name in ("lz4", "lzo", "lzma"):
        image = pack(large, tmp_path / name, compressor=("-comp", name))
        assert refusal(image) == f"it is not compressed with zstd, xz or gzip (its compressor is {name})"


def test_large_layer_is_not_spliced(large: Path, base: Path, tmp_path: Path) -> None:
    """Full packing saves space."""
    with open_reader(pack(large, tmp_path / "base")) as reader, open_reader(base) as layer_reader:
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
