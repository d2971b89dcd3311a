"""The derived list of the files of a customized image, against the list that is computed."""

from __future__ import annotations

import gzip
import os
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ims.images.derivation import Layer, UnderivableError, derive_files, has_changed_links
from ims.images.files import write_files
from ims.images.squashfs.upper import opaque_folders
from ims.sandbox.overlay import mount_image
from tests.fuzzing import examples
from tests.images.squashfs.overlays import mounted, pack
from tests.images.squashfs.test_random import Tree, folders, merged, trees, write
from tests.images.squashfs.trees import CAPABILITY, CHANGES, LINK_CHANGES, Change, add_names, change_much, write_tree
from tests.images.trees import unmount

pytestmark = pytest.mark.system

EXCLUDED = ("image", ".profile")


def check(old: Path, layer: Layer, folder: Path) -> None:
    """Both lists have the same bytes."""
    derive_files(old, layer, folder / "derived", EXCLUDED)
    write_files(layer.merged, folder / "computed", EXCLUDED)
    assert gzip.decompress((folder / "derived").read_bytes()) == gzip.decompress((folder / "computed").read_bytes())
    assert (folder / "derived").read_bytes() == (folder / "computed").read_bytes()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with files of every kind; its list is beside it."""
    folder = tmp_path_factory.mktemp("base")
    write_tree(folder / "root")
    for name in ("image", "tmp", "usr/local"):
        (folder / "root" / name).mkdir()
    (folder / "root/image/config.xml").write_text("of kiwi")
    (folder / "root/usr/local-file").write_text("sorted after the content of usr/local, though - comes before /")
    rootfs = pack(folder / "root", folder / "rootfs")
    with mounted(rootfs, folder / "mounted") as root:
        write_files(root, folder / "list", EXCLUDED)
    return rootfs


def remove_set_id(root: Path) -> None:
    """Set-id bits, capabilities and what is in volatile folders."""
    (root / "usr/bin/big").chmod(0o755)
    (root / "usr/bin/exact").chmod(0o6755)
    os.setxattr(root / "usr/bin/exact", "security.capability", CAPABILITY)
    (root / "tmp/left").write_text("not listed")
    (root / "image/new").write_text("not listed")


def remove_folders(root: Path) -> None:
    """Folders, one of them moved to another name, and one whose name is that of another with an ending."""
    script = """
    rm -r var/opaque tmp; mv usr/lib/x usr/lib/moved; mkdir -p usr/local/lib; touch usr/local.d usr/local/a
    rm usr/local-file; mkdir var/opaque; ln -s /etc var/opaque/etc; rmdir var/empty
    """
    subprocess.run(["sh", "-ec", script], cwd=root, check=True)


@pytest.mark.parametrize("change", [*CHANGES, *LINK_CHANGES, remove_set_id, remove_folders])
def test_derived_list_is_the_computed_one(base: Path, tmp_path: Path, change: Change) -> None:
    """A list that would not be is refused: if a file with several names or with an unusual name was changed."""
    changes, root = tmp_path / "changes", tmp_path / "root"
    try:
        mount_image(base, changes, root)
        change(root)
        if has_changed_links(changes):
            assert change in LINK_CHANGES
            return
        layer = Layer(changes / "upper", root, opaque_folders(changes))
        if change in (add_names, change_much):
            with pytest.raises(UnderivableError, match="unusual characters"):
                check(base.with_name("list"), layer, tmp_path)
        else:
            check(base.with_name("list"), layer, tmp_path)
    finally:
        unmount(tmp_path)


ASCII = st.sampled_from(["a", "b", "a-", "a.d", "B", "name " * 20, '"', "{", "~"])


def derive(base: Tree, layer: Tree, opaque: Collection[str], folder: Path) -> None:
    """Derive the list of random changes of a tree."""
    write(base, folder / "base")
    write(layer, folder / "layer")
    write(merged(base, layer, set(opaque)), folder / "merged")
    write_files(folder / "base", folder / "old", EXCLUDED)
    check(folder / "old", Layer(folder / "layer", folder / "merged", {os.fsencode(path) for path in opaque}), folder)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    trees(is_layer=False, names=ASCII | st.sampled_from(["ä", "\n", "\\x2d", "\udcff"])),
    trees(is_layer=True, names=ASCII),
    st.data(),
)
def test_random_changes(base: Tree, layer: Tree, data: st.DataObject) -> None:
    """Removed, replaced and hidden files of random trees, whose old names may be unusual."""
    paths = folders(layer)
    opaque = set(data.draw(st.lists(st.sampled_from(paths)))) if paths else set[str]()
    with tempfile.TemporaryDirectory() as name:
        derive(base, layer, opaque, Path(name))


@pytest.mark.parametrize("line", [b"", b"{}", b'{"type":"file","path":"/a"}'])
def test_other_lists(tmp_path: Path, line: bytes) -> None:
    """A list of another program is not used."""
    for name in ("upper", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "old").write_bytes(gzip.compress(line + b"\n"))
    with pytest.raises(UnderivableError, match="has another form"):
        check(tmp_path / "old", Layer(tmp_path / "upper", tmp_path / "merged", []), tmp_path)
