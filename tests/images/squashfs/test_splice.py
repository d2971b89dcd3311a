"""Splicing, against the kernel's view of an overlay, the real mksquashfs and the real unsquashfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.images.squashfs.image import Image
from ims.images.squashfs.reading import open_reader
from ims.images.squashfs.rules import check_base, check_layer
from ims.images.squashfs.superblock import SpliceError
from tests.images.squashfs.overlays import Snapshot, changed, check, pack, spliced
from tests.images.squashfs.trees import CHANGES, LINK_CHANGES, Change, change_much, noise, write_tree

pytestmark = pytest.mark.system

LEVEL, BLOCK_SIZE = 3, 128 * 1024
OPTIONS = {
    "without attributes": ("-no-xattrs",),
    "small blocks": ("-b", "4K"),
    "large blocks": ("-b", "1M"),
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
    """A change of one is refused: the other names are elsewhere in the image."""
    with pytest.raises(SpliceError, match="a file that has several names was changed"):
        changed(base, tmp_path, change)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_mksquashfs(tree: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Images with other block sizes, and without attributes."""
    base = pack(tree, tmp_path / "base", *options)
    layer, opaque, shown = changed(base, tmp_path, change_much)
    own = pack(tmp_path / "changes/upper", tmp_path / "layer", *(options if options[0] == "-b" else ()))
    assert own == layer
    check(spliced(base, own, tmp_path / "new", opaque), shown, tmp_path)


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
    """It has the level and the block size of full packing, and enough data."""
    with open_reader(pack(large, tmp_path / "base")) as reader:
        check_base(Image(reader), LEVEL, BLOCK_SIZE, {b"run"}, {b"image"})


def test_images_that_are_not_spliced(large: Path, tmp_path: Path) -> None:
    """The error says why."""
    packed = pack(large, tmp_path / "base")
    assert refusal(pack(large / "tmp", tmp_path / "small")).startswith("its data have ")
    assert refusal(packed, level=6) == "its compression level is 3, its block size 131072"
    assert refusal(packed, empty={b"tmp"}) == "it has files in /tmp that are not part of images"
    assert refusal(packed, absent={b"data"}) == "it has files in /data that are not part of images"
    gzip = pack(large, tmp_path / "gzip", compressor=("-comp", "gzip"))
    assert "not compressed with zstd" in refusal(gzip)
    assert "export table" in refusal(pack(large, tmp_path / "no-exports", "-no-exports"))
    assert "unusual options" in refusal(pack(large, tmp_path / "noI", "-noI"))


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
