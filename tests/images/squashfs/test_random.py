"""Random changes of random trees, against the rules of an overlay."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import examples
from tests.images.squashfs.overlays import Snapshot, changed, check, pack, spliced
from tests.images.squashfs.trees import TIME, noise
from tests.images.trees import snapshot

pytestmark = pytest.mark.system

Tree = dict[str, "Tree | bytes | str | None"]
"""Folders, the content of files, the targets of links, and None for what the layer removes."""

NAMES = st.sampled_from(["a", "b", "c", "ä", "name " * 20])
FILES = st.one_of(st.binary(max_size=300), st.sampled_from([b"x" * 140_000, noise(300_000)]), st.just("target"))


def trees(*, is_layer: bool, names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[Tree]:
    """Trees; those of a layer also remove files."""
    leaves = FILES | st.none() if is_layer else FILES
    nodes = st.recursive(leaves, lambda below: st.dictionaries(names, below, max_size=4), max_leaves=20)
    return st.dictionaries(names, nodes, max_size=5)


def write(tree: Tree, folder: Path) -> None:
    """Write a tree."""
    folder.mkdir()
    for name, node in tree.items():
        path = folder / name
        if isinstance(node, dict):
            write(node, path)
        elif isinstance(node, bytes):
            path.write_bytes(node)
        elif isinstance(node, str):
            path.symlink_to(node)
        else:
            os.mknod(path, stat.S_IFCHR, 0)
        os.utime(path, (7, 7), follow_symlinks=False)
    os.utime(folder, (7, 7))


def merged(base: Tree, layer: Tree, opaque: set[str], path: str = "") -> Tree:
    """The tree that an overlay shows."""
    found = {} if path in opaque else dict(base)
    for name, node in layer.items():
        old = found.pop(name, None)
        if isinstance(node, dict):
            found[name] = merged(old if isinstance(old, dict) else {}, node, opaque, f"{path}/{name}".lstrip("/"))
        elif node is not None:
            found[name] = node
    return found


def folders(tree: Tree, path: str = "") -> list[str]:
    """The paths of all folders in a tree."""
    below = {name: node for name, node in tree.items() if isinstance(node, dict)}
    names = [f"{path}/{name}".lstrip("/") for name in below]
    return names + [item for name, node in zip(names, below.values(), strict=True) for item in folders(node, name)]


@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(trees(is_layer=False), trees(is_layer=True), trees(is_layer=True), st.data())
def test_random_changes(base: Tree, first: Tree, second: Tree, data: st.DataObject) -> None:
    """Two splices in a row give what unsquashfs unpacks of the merged tree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(base, folder / "base")
        current, tree = pack(folder / "base", folder / "base.squashfs"), base
        for number, layer in enumerate((first, second)):
            paths = folders(layer)
            opaque = set(data.draw(st.lists(st.sampled_from(paths)))) if paths else set()
            write(layer, folder / f"layer{number}")
            packed = pack(folder / f"layer{number}", folder / f"layer{number}.squashfs")
            current = spliced(current, packed, folder / f"new{number}", {os.fsencode(path) for path in opaque})
            tree = merged(tree, layer, opaque)
        write(tree, folder / "expected")
        command = ["unsquashfs", "-quiet", "-no-progress", "-dest", str(folder / "unpacked"), str(current)]
        subprocess.run(command, check=True, capture_output=True)
        assert snapshot(folder / "unpacked") == snapshot(folder / "expected")
        shutil.rmtree(folder / "unpacked")


PATHS = st.sampled_from(
    ["f", "a", "a/f", "a/l1", "a/b", "a/b/l2", "a/b/new", "c", "c/l3", "c/s1", "s2", "c/d/e", "new"]
)
"""Files, names of one file, folders, links, and what does not exist."""


def write_linked_tree(root: Path) -> None:
    """A small tree, in which files have several names."""
    for folder in ("a/b", "c/d"):
        (root / folder).mkdir(parents=True)
    (root / "a/l1").write_bytes(noise(200_000))
    for name in ("a/b/l2", "c/l3"):
        (root / name).hardlink_to(root / "a/l1")
    (root / "c/s1").symlink_to("../a")
    os.link(root / "c/s1", root / "s2", follow_symlinks=False)
    for name in ("f", "a/f", "c/d/e"):
        (root / name).write_text(name)
    for path in (*root.rglob("*"), root):
        os.utime(path, (TIME, TIME), follow_symlinks=False)


def remove(path: Path, _other: Path) -> None:
    """With everything in it."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def link(path: Path, other: Path) -> None:
    """Another name; of a link itself, too."""
    os.link(path, other, follow_symlinks=False)


def change_attributes(path: Path, other: Path) -> None:
    """Owner, mode and an attribute."""
    os.chown(path, len(str(other)), 7, follow_symlinks=False)
    path.chmod(0o751)
    os.setxattr(path, "user.note", other.name.encode())


ACTIONS: list[Callable[[Path, Path], object]] = [
    *(remove, link, change_attributes, Path.rename),
    lambda path, other: path.write_bytes(noise(150_000, len(str(other)))),
    lambda path, _: path.mkdir(),
    lambda path, other: path.symlink_to(other.name),
    lambda path, _: os.utime(path, (3, 3), follow_symlinks=False),
]
PROGRAMS = st.lists(st.tuples(st.sampled_from(range(len(ACTIONS))), PATHS, PATHS), max_size=12)


@settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PROGRAMS, min_size=1, max_size=3), st.sampled_from([(), ("-no-fragments", "-noI")]))
def test_random_programs(programs: list[list[tuple[int, str, str]]], options: tuple[str, ...]) -> None:
    """Images that are spliced several times have the content that the kernel showed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_linked_tree(folder / "tree")
        current, shown = pack(folder / "tree", folder / "base", *options), Snapshot()
        for number, program in enumerate(programs):
            step = folder / str(number)
            step.mkdir()
            layer, opaque, shown = changed(current, step, partial(run, program=program))
            current = spliced(current, layer, step / "new", opaque)
        check(current, shown, folder)


def run(root: Path, program: list[tuple[int, str, str]]) -> None:
    """Do everything that is possible."""
    for number, path, other in program:
        with suppress(OSError):
            ACTIONS[number](root / path, root / other)
