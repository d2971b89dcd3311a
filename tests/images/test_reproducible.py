"""What is normalized in an image root after a build, and what must not change."""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
from pathlib import Path

import pytest

from ims.images import reproducible
from ims.images.attributes import extended_attributes

MOMENT = 1_700_000_000
STARTED = 1_800_000_000
# user::rw-, user:1:rw-, group::r--, mask::rw-, other::r--
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, who)
    for tag, rights, who in (
        (1, 6, 0xFFFFFFFF),
        (2, 6, 1),
        (4, 4, 0xFFFFFFFF),
        (16, 6, 0xFFFFFFFF),
        (32, 4, 0xFFFFFFFF),
    )
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root after a build."""
    folder = tmp_path / "root"
    for name in ("etc", "var/log/apt", "var/log/zypp", "var/log/journal", "var/lib/dnf", "run"):
        (folder / name).mkdir(parents=True)
    return folder


def settle(root: Path) -> None:
    """Normalize it like a build does."""
    reproducible.normalize(root, STARTED, MOMENT, root.parent)


def test_times_of_packages_stay(root: Path) -> None:
    """Only files written since the build began get the fixed time. Links are not followed."""
    old, new, link = root / "etc/old", root / "etc/new", root / "etc/link"
    old.write_text("from a package")
    new.write_text("from a script")
    link.symlink_to("old")
    os.utime(old, (STARTED - 5, STARTED - 5))
    os.utime(new, (STARTED, STARTED))
    os.utime(link, (STARTED + 9, STARTED + 9), follow_symlinks=False)
    settle(root)
    assert [path.lstat().st_mtime for path in (old, new, link)] == [STARTED - 5, MOMENT, MOMENT]


def test_logs_of_package_managers_are_removed(root: Path) -> None:
    """Other logs stay, and so does everything outside the root, whatever the links in it refer to."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "aux-cache").write_text("not ours")
    (root / "var/cache").mkdir()
    (root / "var/cache/ldconfig").symlink_to(outside)
    for name in ("dpkg.log", "apt/history.log", "dnf.librepo.log", "zypp/history", "wtmp", "journal/kept"):
        (root / "var/log" / name).write_text("x")
    settle(root)
    left = [str(path.relative_to(root)) for path in (root / "var/log").rglob("*") if path.is_file()]
    assert sorted(left) == ["var/log/journal/kept", "var/log/wtmp"]
    assert (outside / "aux-cache").exists()


def history(path: Path, begin: int, place: Path) -> None:
    """A reduced history of dnf, with a journal that is not merged yet."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE trans (id INTEGER PRIMARY KEY, dt_begin INTEGER, dt_end INTEGER, cmdline TEXT)")
    database.execute(
        "INSERT INTO trans VALUES (1, ?, ?, ?)", (begin, begin + 3, f"--installroot {place}/root install a")
    )
    database.commit()
    # A copy of an open database has its journal next to it, as if dnf had been killed.
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        copy = path.with_name(name.replace("open", "history"))
        copy.write_bytes(path.with_name(name).read_bytes())
    database.close()
    path.unlink()


def test_history_of_dnf_has_no_times(root: Path) -> None:
    """It states what was done, and is the same file whenever that happened."""
    contents = []
    for begin in (1_800_000_001, 1_800_009_000):
        history(root / "var/lib/dnf/open.sqlite", begin, root.parent)
        settle(root)
        (path,) = (root / "var/lib/dnf").iterdir()
        contents.append(path.read_bytes())
        with sqlite3.connect(path) as database:
            assert database.execute("SELECT * FROM trans").fetchall() == [
                (1, MOMENT, MOMENT, "--installroot /root install a")
            ]
        database.close()
        for left in (root / "var/lib/dnf").iterdir():
            left.unlink()
    assert contents[0] == contents[1]


def test_list_of_zypper_has_no_date(root: Path) -> None:
    """Its entries stay."""
    path = root / "var/lib/zypp/AutoInstalled"
    path.parent.mkdir(parents=True)
    path.write_text("# AutoInstalled generated Wed Nov 25 15:37:59 2026\n#\nbusybox\n")
    settle(root)
    assert path.read_text() == "# AutoInstalled generated\n#\nbusybox\n"


def test_file_that_is_not_a_database_is_not_changed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The build does not fail."""
    (root / "var/lib/dnf/history.sqlite").write_text(
        "made up, and long enough to be read as the head of a database" * 9
    )
    with caplog.at_level(logging.WARNING):
        settle(root)
    assert "cannot normalize history.sqlite of the image" in caplog.text


def test_journal_may_be_a_link(root: Path) -> None:
    """Its target is not written to."""
    outside = root.parent / "outside"
    outside.write_text("not ours")
    sqlite3.connect(root / "var/lib/dnf/history.sqlite").close()
    (root / "var/lib/dnf/history.sqlite-wal").symlink_to(outside)
    settle(root)
    assert outside.read_text() == "not ours"
    assert (root / "var/lib/dnf/history.sqlite-wal").is_symlink()


def test_acls_are_removed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An image cannot store them. The log names the files."""
    (root / "etc/shared").write_text("x")
    os.setxattr(root / "etc/shared", "system.posix_acl_access", ACL)
    with caplog.at_level(logging.WARNING):
        settle(root)
    assert extended_attributes(root / "etc/shared") == {}
    assert "1 files lose theirs: '/etc/shared'" in caplog.text
