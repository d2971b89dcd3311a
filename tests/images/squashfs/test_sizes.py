"""Sizes beyond those of ordinary images: positions and files of more than 4 GiB, long folders, long attributes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ims.images.squashfs.image import Image
from ims.images.squashfs.inodes import FILE, Content
from ims.images.squashfs.reading import open_reader
from tests.images.squashfs.large import GAP, add_to_small_tree, change_small_tree, moved_apart, write_small_tree
from tests.images.squashfs.overlays import changed, check, mounted, pack, spliced
from tests.images.squashfs.trees import noise

pytestmark = pytest.mark.system


def test_image_of_more_than_4_gib(tmp_path: Path) -> None:
    """What follows the first 4 GiB has inodes with long positions. Two splices in a row."""
    current = moved_apart(pack(write_small_tree(tmp_path / "tree"), tmp_path / "base"), tmp_path / "apart")
    for number, change in enumerate([change_small_tree, add_to_small_tree]):
        folder = tmp_path / str(number)
        folder.mkdir()
        layer, opaque, shown = changed(current, folder, change)
        current = spliced(current, layer, folder / "new", opaque)
        assert max(start_of_contents(current)) > GAP
        check(current, shown, folder)


def start_of_contents(squashfs: Path) -> list[int]:
    """Where the blocks of files begin."""
    with open_reader(squashfs) as reader:
        image = Image(reader)
        bodies = [inode.body for _, inode in image.walk(image.root) if inode.kind == FILE]
        return [body.start for body in bodies if isinstance(body, Content)]


def test_files_of_more_than_4_gib(tmp_path: Path) -> None:
    """One that stays, and a new one."""
    write_long_file(tmp_path / "tree/old")
    base = pack(tmp_path / "tree", tmp_path / "base", "-b", "1M")
    write_long_file(tmp_path / "upper/new")
    layer = pack(tmp_path / "upper", tmp_path / "layer", "-b", "1M")
    new = spliced(base, layer, tmp_path / "new")
    with mounted(new, tmp_path / "mounted") as root:
        assert [read_long_file(root / name) for name in ("old", "new")] == [(GAP + 7, b"start", b"the end")] * 2


def write_long_file(path: Path) -> None:
    """A file of more than 4 GiB with a hole."""
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(b"start")
        file.seek(GAP)
        file.write(b"the end")


def read_long_file(path: Path) -> tuple[int, bytes, bytes]:
    """The size, the beginning and the end of a file."""
    with path.open("rb") as file:
        start = file.read(5)
        file.seek(GAP)
        return path.stat().st_size, start, file.read()


def test_folder_of_more_than_65536_names(tmp_path: Path) -> None:
    """Its inode has long fields and an index, which finds every name."""
    (tmp_path / "tree/many").mkdir(parents=True)
    for number in range(66_000):  # ext4 allows 65000 names of a file
        os.link(existing(tmp_path / f"tree/file{number % 3}"), tmp_path / f"tree/many/n{number % 7}-{number}")
    base = pack(tmp_path / "tree", tmp_path / "base")
    (tmp_path / "upper/many").mkdir(parents=True)
    for number in range(700):
        (tmp_path / f"upper/many/added{number}").write_text(str(number))
    new = spliced(base, pack(tmp_path / "upper", tmp_path / "layer"), tmp_path / "new")
    with mounted(new, tmp_path / "mounted") as root:
        names = os.listdir(root / "many")  # noqa: PTH208
        assert len(names) == 66_700
        assert names == sorted(names)
        assert all((root / "many" / name).exists() for name in names[::97])
        assert (root / "many/added699").read_text() == "699"
        assert not (root / "many/added700").exists()


def existing(path: Path) -> Path:
    """A file."""
    path.touch()
    return path


def set_long_attributes(root: Path) -> None:
    """More than a metadata block."""
    for number in range(50):
        for name in "abc":
            os.setxattr(root / f"etc/file{number}", f"user.{name}", noise(900, number))


@pytest.mark.parametrize("before", [True, False], ids=["in base and layer", "in the layer"])
def test_attributes_of_several_blocks(tmp_path: Path, before: bool) -> None:
    """They cross the borders of metadata blocks, in the base and in what is added."""
    tree = write_small_tree(tmp_path / "tree")
    if before:
        set_long_attributes(tree)
    change = set_other_attributes if before else set_long_attributes
    layer, opaque, shown = changed(pack(tree, tmp_path / "base"), tmp_path, change)
    check(spliced(tmp_path / "base", layer, tmp_path / "new", opaque), shown, tmp_path)


def set_other_attributes(root: Path) -> None:
    """Values that the base does not have."""
    for number in range(40):
        os.setxattr(root / f"etc/file{number}", "user.other", noise(900, 200 + number))
