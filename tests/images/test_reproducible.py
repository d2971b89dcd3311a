"""What a build leaves of its hour in an image root, and what it must not touch."""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
from pathlib import Path

import pytest

from ims.images import reproducible
from ims.images.overlay import extended_attributes

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
    """A root as a build leaves it."""
    folder = tmp_path / "root"
    for name in ("etc", "var/log/apt", "var/log/zypp", "var/log/journal", "var/lib/dnf", "run"):
        (folder / name).mkdir(parents=True)
    return folder


def settle(root: Path) -> None:
    """As a build does it."""
    reproducible.normalize(root, STARTED, MOMENT, root.parent)


def test_times_of_packages_stay(root: Path) -> None:
    """Only what was written since the build began gets the one time; links are not followed."""
    old, new, link = root / "etc/old", root / "etc/new", root / "etc/link"
    old.write_text("from a package")
    new.write_text("from a script")
    link.symlink_to("old")
    os.utime(old, (STARTED - 5, STARTED - 5))
    os.utime(new, (STARTED, STARTED))
    os.utime(link, (STARTED + 9, STARTED + 9), follow_symlinks=False)
    settle(root)
    assert [path.lstat().st_mtime for path in (old, new, link)] == [STARTED - 5, MOMENT, MOMENT]


def test_notes_of_package_managers_go(root: Path) -> None:
    """And no other log; nothing outside the root, whatever the links in it say."""
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
    """What dnf writes, in short, with a log that is not yet part of it."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE trans (id INTEGER PRIMARY KEY, dt_begin INTEGER, dt_end INTEGER, cmdline TEXT)")
    database.execute(
        "INSERT INTO trans VALUES (1, ?, ?, ?)", (begin, begin + 3, f"--installroot {place}/root install a")
    )
    database.commit()
    # A copy while it is open has the log beside it, as when dnf is killed.
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        copy = path.with_name(name.replace("open", "history"))
        copy.write_bytes(path.with_name(name).read_bytes())
    database.close()
    path.unlink()


def test_history_of_dnf_has_no_hour(root: Path) -> None:
    """It has what was done, and is the same file whenever it was."""
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
    """What it lists stays."""
    path = root / "var/lib/zypp/AutoInstalled"
    path.parent.mkdir(parents=True)
    path.write_text("# AutoInstalled generated Wed Nov 25 15:37:59 2026\n#\nbusybox\n")
    settle(root)
    assert path.read_text() == "# AutoInstalled generated\n#\nbusybox\n"


def test_what_is_no_database_is_left_alone(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A build does not fail for it."""
    (root / "var/lib/dnf/history.sqlite").write_text(
        "made up, and long enough to be read as the head of a database" * 9
    )
    with caplog.at_level(logging.WARNING):
        settle(root)
    assert "cannot normalize history.sqlite of the image" in caplog.text


def test_log_of_a_database_may_lead_out(root: Path) -> None:
    """Then nothing is written to it."""
    outside = root.parent / "outside"
    outside.write_text("not ours")
    sqlite3.connect(root / "var/lib/dnf/history.sqlite").close()
    (root / "var/lib/dnf/history.sqlite-wal").symlink_to(outside)
    settle(root)
    assert outside.read_text() == "not ours"
    assert (root / "var/lib/dnf/history.sqlite-wal").is_symlink()


def test_acls_go(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An image cannot have them; the log names the files."""
    (root / "etc/shared").write_text("x")
    os.setxattr(root / "etc/shared", "system.posix_acl_access", ACL)
    with caplog.at_level(logging.WARNING):
        settle(root)
    assert extended_attributes(root / "etc/shared") == {}
    assert "1 files lose theirs: '/etc/shared'" in caplog.text
