"""Reading deeply nested image roots, which programs of the image can make."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ims.errors import InputError
from ims.images.changes import Difference, compare
from ims.images.files import read_lines, write_files
from ims.images.reproducible import files_with_acls, normalize, set_times
from ims.images.tree import MAX_PATH, walk
from ims.removal import remove
from tests.test_removal import make_deep

DEEP = 1800
"""Deeper than Python recurses, but with paths that the kernel accepts."""
TOO_DEEP = 5000


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two image roots of nested folders, named after their depth, and one empty root."""
    folder = tmp_path_factory.mktemp("roots")
    (folder / "empty").mkdir()
    for depth in (DEEP, TOO_DEEP):
        (folder / str(depth)).mkdir()
        make_deep(folder / str(depth) / "deep", depth)
    yield folder
    remove(folder)  # pytest could not


def test_walk_is_sorted(tmp_path: Path) -> None:
    """The content of a folder follows it. The content of volatile folders can be left out."""
    for name in ("b", "a/z", "a/b/c", "tmp/x", "usr/tmp/y"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to("/")
    found = [str(path.relative_to(tmp_path)) for path in walk(tmp_path, ["b"], volatile=False)]
    assert found == ["a", "a/b", "a/b/c", "a/link", "a/z", "tmp", "usr", "usr/tmp", "usr/tmp/y"]


def added(root: Path) -> Difference:
    """What a change adds to an empty image."""
    return compare(root.parent / "empty", root, root)


READERS: dict[str, Callable[[Path], object]] = {
    "walk": lambda root: list(walk(root)),
    "changes": added,
    "list of files": lambda root: write_files(root, root.parent / "list", ()),
    "times": lambda root: set_times(root, 1),
    "ACLs": lambda root: list(files_with_acls(root)),
    "normalization": lambda root: normalize(root, time.time(), 1, root),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_nested_folders(roots: Path, read: Callable[[Path], object]) -> None:
    """Nothing recurses. A path that is too long for the kernel is refused with the length and the limit."""
    read(roots / str(DEEP))
    with pytest.raises(InputError, match=rf"a path of \d+ bytes, more than {MAX_PATH}: …/d/d/.*/d\. Remove it"):
        read(roots / str(TOO_DEEP))


def test_nested_folders_are_complete(roots: Path, tmp_path: Path) -> None:
    """Every folder is listed, also those that are removed."""
    root = roots / str(DEEP)
    assert len(added(root).files_added) == DEEP + 2
    write_files(root, tmp_path / "list", ())
    assert len(list(read_lines([(tmp_path / "list").read_bytes()], "list"))) == DEEP + 2
    (tmp_path / "deep").touch()  # in place of the folder
    removed = compare(root, tmp_path, tmp_path).files_removed
    assert len(removed) == DEEP + 2
    assert removed[-1] == f"/deep{'/d' * DEEP}/file"
