"""When S3 counts as ready."""

from __future__ import annotations

import pytest

from ims.settings import Settings
from ims.stack import lifecycle
from ims.stack.credentials import Credentials
from ims.storage.objects import ObjectName


class MemoryStore:
    """Objects in memory, by their names."""

    def __init__(self) -> None:
        self.content: dict[ObjectName, bytes] = {}

    def connect(self, *_arguments: object, **_options: object) -> MemoryStore:
        """Returns itself."""
        return self

    def write_bytes(self, name: ObjectName, data: bytes) -> None:
        """Creates an object."""
        self.content[name] = data

    def read_bytes(self, name: ObjectName, limit: int) -> bytes:
        """Returns an object."""
        return self.content[name][:limit]

    def delete(self, name: ObjectName) -> None:
        """Removes an object."""
        del self.content[name]


def test_probe_leaves_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket belongs to the users."""
    store = MemoryStore()
    monkeypatch.setattr(lifecycle, "ObjectStore", store)
    assert lifecycle._s3_works(Settings(), Credentials.generate())
    assert store.content == {}
