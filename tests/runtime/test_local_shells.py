"""Shells as services of a running stack, without a workflow around them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from platform import machine
from typing import Any

import pytest

from ims.errors import ImsError, MissingError
from ims.runtime.local import LocalRuntime
from ims.runtime.local_shells import START_SECONDS, LocalShells
from tests.service import PUBLIC_KEY, Service
from tests.shell.small_image import pack, write_root


@pytest.fixture
def workspace(service: Service) -> Iterator[Path]:
    """Of a job whose shell is closed at the end."""
    job = str(uuid.uuid4())
    yield LocalRuntime().open_workspace(job, 1)
    LocalShells().close(job)
    LocalRuntime().close_workspace(job)


def wanted(workspace: Path, rootfs: Path | None) -> dict[str, Any]:
    """What a shell is opened with."""
    image = None if rootfs is None else str(rootfs)
    return {"workspace": str(workspace), "rootfs": image, "public_key": PUBLIC_KEY, "jail": True, "name": "test"}


def test_opened_again(workspace: Path, tmp_path: Path) -> None:
    """A task that is tried again after its worker died gets the same address and host key."""
    rootfs = pack(write_root(tmp_path / "root"), tmp_path / "rootfs")
    first = LocalShells().open(wanted(workspace, rootfs), machine())
    assert LocalShells().open(wanted(workspace, rootfs), machine()) == first
    assert LocalShells().outcome(workspace.name, jail=True) is None
    (workspace / "changes" / "upper" / "tmp").mkdir(exist_ok=True)
    (workspace / "changes" / "upper" / "tmp" / "complete").touch()
    assert LocalShells().outcome(workspace.name, jail=True) == "complete"


def test_what_cannot_be_shown(workspace: Path, tmp_path: Path) -> None:
    """The step's own reason, at once."""
    (tmp_path / "rootfs").write_bytes(b"no squashfs")
    started = time.monotonic()
    with pytest.raises(ImsError, match="rootfs is not a squashfs"):
        LocalShells().open(wanted(workspace, tmp_path / "rootfs"), machine())
    assert time.monotonic() - started < START_SECONDS / 2
    with pytest.raises(MissingError):
        LocalShells().open(wanted(workspace, None), machine())
