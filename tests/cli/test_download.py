"""How the files of an image are downloaded, with a store in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ims.cli.pulling import pull
from ims.errors import InputError
from ims.storage.objects import ObjectName, StoredObject

LINK = "s3://images/an-id/manifest.yaml"


class Store:
    """Objects in memory."""

    def __init__(self, **content: bytes) -> None:
        self.content = {f"s3://images/an-id/{name}": data for name, data in content.items()}
        self.fetched: list[str] = []

    def manifest(self, **changes: Any) -> None:
        """Store a manifest that lists all objects."""
        artifacts = [
            {"type": f"application/vnd.{number}", "md5": md5(data), "link": {"type": "s3", "path": path}}
            for number, (path, data) in enumerate(self.content.items())
        ]
        manifest = {"version": "1.0", "created": "2026-11-01", "artifacts": artifacts, **changes}
        self.content[LINK] = json.dumps(manifest).encode()

    def read_bytes(self, name: ObjectName, limit: int) -> bytes:
        """Return an object."""
        return self.content[str(name)]

    def stat(self, name: ObjectName) -> StoredObject:
        """Return the size of an object."""
        return StoredObject(len(self.content[str(name)]), "etag", {})

    def resume(self, name: ObjectName, path: Path, _md5: str, seen: Callable[[int], None]) -> StoredObject:
        """Write an object to a file."""
        self.fetched.append(name.key)
        path.write_bytes(self.content[str(name)])
        seen(path.stat().st_size)
        return self.stat(name)


def md5(data: bytes) -> str:
    """Return the MD5 checksum of some bytes."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_pull(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All files and the manifest are written. A second pull downloads only what has changed."""
    store: Any = Store(rootfs=b"one", kernel=b"two")
    store.manifest()
    folder = tmp_path / "a" / "b"
    pull(store, LINK, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "rootfs": b"one",
        "kernel": b"two",
        "manifest.yaml": store.content[LINK],
    }
    (folder / "kernel").write_bytes(b"old")
    pull(store, LINK, folder)
    assert store.fetched == ["an-id/rootfs", "an-id/kernel", "an-id/kernel"]
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/rootfs 3 bytes, verified",
        f"{folder}/kernel 3 bytes, verified",
        f"{folder}/rootfs already exists, verified",
        f"{folder}/kernel 3 bytes, verified",
    ]


@pytest.mark.parametrize("path", ["s3://images/other/rootfs", "s3://images/other/manifest.yaml"])
def test_two_files_with_one_name(tmp_path: Path, path: str) -> None:
    """Two artifacts, or an artifact and the manifest, would overwrite each other."""
    store: Any = Store(rootfs=b"one")
    store.content[path] = b"two"
    store.manifest()
    with pytest.raises(InputError, match=f"two files with the name {Path(path).name}"):
        pull(store, LINK, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("key", ["an-id/..", "an-id/a\x07b"])
def test_object_without_a_file_name(tmp_path: Path, key: str) -> None:
    """A file must not be written outside of the folder or with control characters in its name."""
    store: Any = Store()
    store.content[f"s3://images/{key}"] = b"one"
    store.manifest()
    with pytest.raises(InputError, match="does not end with a file name"):
        pull(store, LINK, tmp_path / "folder")
