"""Splicing, against the kernel's view of an overlay, the real mksquashfs and the real unsquashfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ims.images.squashfs.image import Image
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.superblock import SpliceError
from tests.images.squashfs.overlays import Snapshot, changed, check, pack, spliced
from tests.images.squashfs.trees import CHANGES, LINK_CHANGES, Change, change_much, noise, write_tree

pytestmark = pytest.mark.system

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
