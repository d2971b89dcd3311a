"""Random changes of random trees, against the rules of an overlay."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import examples
from tests.images.squashfs.overlays import pack, spliced
from tests.images.squashfs.trees import noise
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
