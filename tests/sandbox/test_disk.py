"""What ends when a disk is almost full, and what goes on."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from ims.errors import ImsError, PermanentError
from ims.sandbox import disk
from tests.flows.disks import MIB, mounted_disk

SIZE = 64 * MIB


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    with mounted_disk(place, tmp_path / "file", SIZE):
        folder = place / "job"
        folder.mkdir()
        yield folder


@pytest.mark.parametrize(
    ("watermark", "reason"),
    [
        (0, None),
        (3, None),
        (4, "the disk of {folder}/none has 3 MiB free; new jobs wait until it has 4 MiB"),
        (5120, "the disk of {folder}/none has 3 MiB free; new jobs wait until it has 5 MiB"),
    ],
)
def test_watermark(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    configure: Callable[..., None],
    watermark: int,
    reason: str | None,
) -> None:
    """The first disk with less space counts, also before its folder exists. A tenth of a disk is enough."""
    configure(disk_watermark_mib=watermark)
    usage = {tmp_path: (500 * MIB, 500 * MIB), tmp_path / "full": (50 * MIB, 3 * MIB)}
    (tmp_path / "full").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=usage[path][0], free=usage[path][1]))
    found = disk.shortage([tmp_path, tmp_path / "full" / "none"])
    assert found == (reason and reason.format(folder=tmp_path / "full"))
    assert disk.lacking(tmp_path / "full" / "none") == (min(watermark, 5) - 3) * MIB * bool(reason)


def fill(folder: Path) -> None:
    """Leave no space on the disk of a folder."""
    free = os.statvfs(folder)
    with (folder / "large").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize - MIB)


def make_files(folder: Path) -> None:
    """Make as many files as the disk of a folder allows."""
    for number in range(os.statvfs(folder).f_favail):
        (folder / str(number)).touch()


class Looks:
    """Counts how often the watch looks at the disk."""

    def __init__(self, look: Callable[[Path], float]) -> None:
        self._look = look
        self.count = 0

    def __call__(self, folder: Path) -> float:
        """Return what the watch sees."""
        self.count += 1
        return self._look(folder)

    def wait(self, count: int) -> None:
        """Wait until the watch has looked so often."""
        until = time.monotonic() + 20
        while self.count < count:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Counts the looks at a real disk."""
    found = Looks(disk._left)
    monkeypatch.setattr(disk, "_left", found)
    return found


def wait_for_the_end(ended: list[bool]) -> None:
    """Wait until the watch has ended the job."""
    until = time.monotonic() + 20
    while not ended and time.monotonic() < until:
        time.sleep(0.05)


def test_reserve_of_a_large_and_of_a_small_disk(configure: Callable[..., None]) -> None:
    """It is what the setting says, but at most a twentieth of the disk."""
    configure(disk_reserve_mib=1024)
    assert disk.reserve(100 * 1024 * MIB) == 1024 * MIB
    assert disk.reserve(100 * MIB) == 5 * MIB


def test_available_space_is_without_the_reserve(tmp_path: Path, configure: Callable[..., None]) -> None:
    """Jobs may not use it."""
    configure(disk_reserve_mib=1)
    assert 0 < disk.available(tmp_path) < os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize


@pytest.mark.system
@pytest.mark.parametrize("attack", [fill, make_files])
def test_job_that_fills_the_disk_ends(small: Path, attack: Callable[[Path], None]) -> None:
    """The error names the folder, the limits and the settings. It replaces the one that the end causes."""
    ended: list[bool] = []
    with (  # noqa: PT012
        pytest.raises(
            PermanentError, match=rf"the disk of {small} is almost full: .* more than its 0\.0 GiB"
        ) as caught,
        disk.limit([small], 16 * MIB, lambda: ended.append(True)),
    ):
        attack(small)
        wait_for_the_end(ended)
        raise ImsError("it was killed")
    assert ended == [True]
    assert "build_env_size" in caught.value.hint


@pytest.mark.system
@pytest.mark.parametrize("attack", [fill, make_files])
def test_job_that_fills_the_disk_fails_before_the_watch_looks(
    small: Path, attack: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full disk is the reason, not the error that it caused."""
    monkeypatch.setattr(disk, "POLL_SECONDS", 60)
    with (  # noqa: PT012
        pytest.raises(PermanentError, match=f"the disk of {small} is almost full"),
        disk.limit([small], 16 * MIB, lambda: None),
    ):
        attack(small)
        raise ImsError("it could not write")


@pytest.mark.system
@pytest.mark.parametrize("space", [SIZE, None])
def test_job_within_its_space_goes_on(small: Path, space: int | None, looks: Looks) -> None:
    """Another one fills the disk, or there is no limit."""
    ended: list[bool] = []
    fill(small)
    with disk.limit([small], space, lambda: ended.append(True)):
        if space is not None:
            looks.wait(3)
    assert ended == []


@pytest.mark.parametrize(("left", "ends"), [(0.7, False), (0.3, True)])
def test_jobs_that_asked_for_much_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float, ends: bool
) -> None:
    """What a job asked for does not count when little of the reserve is left."""
    looks = Looks(lambda _folder: left)
    monkeypatch.setattr(disk, "_left", looks)
    monkeypatch.setattr(disk, "_space_of", lambda _folders: 10 * 1024 * MIB)
    ended: list[bool] = []
    with (
        pytest.raises(PermanentError, match=r"takes 10\.0 GiB, which is more than its 4\.0 GiB")
        if ends
        else nullcontext(),
        disk.limit([tmp_path], 20 * 1024 * MIB, lambda: ended.append(True)),
    ):
        wait_for_the_end(ended) if ends else looks.wait(3)
    assert bool(ended) is ends


@pytest.mark.system
def test_large_job_goes_on_while_there_is_space(small: Path, looks: Looks) -> None:
    """It may take more than it asked for."""
    ended: list[bool] = []
    (small / "large").write_bytes(bytes(32 * MIB))
    with disk.limit([small], 1, lambda: ended.append(True)):
        looks.wait(3)
    assert ended == []


def test_disk_becomes_fuller_after_a_slow_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch rests after it, but not if the rest of the reserve is taken meanwhile."""
    watch = Looks(lambda _folder: 0.9 if watch.count < 3 else 0.2)
    used = iter((10 * MIB, 30 * MIB))
    monkeypatch.setattr(disk, "_left", watch)
    monkeypatch.setattr(disk, "_REST", 1_000_000)
    monkeypatch.setattr(disk, "_space_of", lambda _folders: next(used))
    ended: list[bool] = []
    with pytest.raises(PermanentError), disk.limit([tmp_path], 20 * MIB, lambda: ended.append(True)):
        wait_for_the_end(ended)
    assert watch.count >= 3


def test_watch_goes_on_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that cannot start a program for a moment does not end the limit."""

    def space(_folders: Sequence[Path]) -> int:
        if watch.count == 1:
            raise BlockingIOError("no process can be started")
        return 30 * MIB

    watch = Looks(lambda _folder: 0.7)
    monkeypatch.setattr(disk, "_left", watch)
    monkeypatch.setattr(disk, "_space_of", space)
    ended: list[bool] = []
    with pytest.raises(PermanentError), disk.limit([tmp_path], 20 * MIB, lambda: ended.append(True)):
        wait_for_the_end(ended)
    assert "cannot be watched now: no process can be started" in caplog.text


def test_job_ends_by_itself_while_its_space_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is the reason: programs fail on a full disk before they are killed."""
    is_measured = threading.Event()

    def space(_folders: Sequence[Path]) -> int:
        is_measured.set()
        time.sleep(0.5)
        return 30 * MIB

    monkeypatch.setattr(disk, "_left", lambda _folder: 0.7)
    monkeypatch.setattr(disk, "_space_of", space)
    with (
        pytest.raises(PermanentError, match="is almost full"),
        disk.limit([tmp_path], 20 * MIB, lambda: None),
    ):
        assert is_measured.wait(20)
