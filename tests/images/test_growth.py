"""Which folders of an image have grown."""

from __future__ import annotations

import json

import pytest

from ims.images import differences
from ims.images.differences import compare_files


def lines(files: dict[str, int]) -> list[bytes]:
    """The list of these files, with their sizes."""
    fields = {"type": "file", "mode": "0644", "uid": 0, "gid": 0}
    return [json.dumps({"path": path, "size": size, **fields}).encode() for path, size in files.items()]


def grown(before: dict[str, int], after: dict[str, int]) -> list[tuple[str, int]]:
    """The folders that have grown most, with the sizes."""
    found = compare_files(iter(lines(before)), iter(lines(after)))
    return [(folder.path, folder.size) for folder in found.grown]


def test_growth_of_folders() -> None:
    """A file counts for the third folder of its path, or for its own; what grew and shrank equally is left out."""
    before = {"/a": 1, "/opt/x": 5, "/usr/lib/firmware/old": 10, "/var/x": 3}
    after = {"/b": 4, "/opt/y": 5, "/usr/lib/firmware/amd/gpu/new": 110, "/var/x": 1}
    assert grown(before, after) == [("/usr/lib/firmware", 100), ("/", 3), ("/var", -2)]


def test_largest_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten folders are named, and no more than a limit are kept in memory."""
    names = [f"/{number:04}/x" for number in range(50)]
    sizes = {name: number for number, name in enumerate(names)}
    assert grown({}, sizes)[::9] == [("/0049", 49), ("/0040", 40)]
    monkeypatch.setattr(differences, "MAX_FOLDERS", 3)
    assert grown({}, sizes) == [("/0002", 2), ("/0001", 1)]
