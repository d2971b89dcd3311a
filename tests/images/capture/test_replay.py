"""Runs captured scripts in copies of the image before the changes: the results have the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ims.images.capture import capture as capture_module
from ims.images.capture import files
from ims.images.capture.capture import Captured, capture
from ims.images.capture.package_commands import package_section
from ims.images.changes import compare
from ims.images.files import File, read_lines, write_files
from ims.images.packages import installed_packages
from tests.flows.rpm_repository import Package, build_repository
from tests.shell.small_image import write_root

pytestmark = pytest.mark.system

HOSTILE_NAMES = (
    "it's $(touch pwned) `touch pwned`; touch pwned",
    '"quoted" \\ back',
    "-rf",
    " spaces  ",
    "ü*?[a]{b,c}~",
    "<<'END'",
)
HOSTILE_TEXTS = {
    "of-delimiters": b"END\nEND_\ntouch /pwned\n",
    "of-quotes": b"'\"$(touch /pwned)`touch /pwned`\\\n",
    "without-end": b"no newline",
    "binary": bytes(range(256)),
    "with-escapes": b"\x1b[2J\n",
    "empty": b"",
}

SESSIONS = {
    "zypper": ("zypper -n install", "zypper -n install --oldpackage changed=1.0 added; zypper -n remove dropped"),
    "dnf": ("dnf -y install", "dnf -y downgrade changed; dnf -y install added; dnf -y remove dropped"),
}
"""The command that installs packages of the image, and what a user does then."""


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The image before the changes."""
    root = write_root(tmp_path / "before")
    for name in ("old/deep/file", "opt/folder/file", "opt/file", "etc/gone", "var/cache/kept", "usr/bin/tool"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"this is {name}\n")
    (root / "opt/link").symlink_to("folder")
    return root


@pytest.fixture
def after(before: Path) -> Path:
    """A copy of the image, for changes."""
    return copy(before, "after")


def copy(root: Path, name: str) -> Path:
    """Copy an image root."""
    subprocess.run(["cp", "-a", root, root.with_name(name)], check=True)
    return root.with_name(name)


def captured(before: Path, after: Path) -> Captured:
    """What is captured of the changes between two roots."""
    return capture(compare(before, after, after), before, after)


def replay(before: Path, script: str) -> Path:
    """Run a script in a copy of the image; returns the copy."""
    root = copy(before, "replayed")
    (root / "customize.sh").write_text(script)
    (root / "customize.sh").chmod(0o755)
    subprocess.run(["chroot", root, "/customize.sh"], check=True, timeout=60)
    (root / "customize.sh").unlink()
    return root


def listed(root: Path) -> dict[str, File]:
    """The files of an image root by path."""
    target = root.with_name("files.gz")
    write_files(root, target, ())
    with target.open("rb") as file:
        return {found.path: found for found in map(File.model_validate_json, read_lines(file, "list"))}


def differences(first: Path, second: Path) -> set[str]:
    """The paths of files that differ."""
    before, after = listed(first), listed(second)
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def test_files(before: Path, after: Path) -> None:
    """Files, folders and links of every kind of change, with modes and owners, whatever their names and content."""
    for folder in ("new", *(f"new/{name}" for name in HOSTILE_NAMES)):
        (after / folder).mkdir()
        (after / folder / "file").write_text(f"{folder}\n")
        (after / folder / "file").chmod(0o604)
        (after / folder / "link").symlink_to(folder)
    for name, content in HOSTILE_TEXTS.items():
        (after / "new" / name).write_bytes(content)
    os.chown(after / "new/-rf", 12, 34)
    (after / "new/-rf").chmod(0o2711)
    (after / "usr/bin/tool").write_text("changed\n")
    os.chown(after / "usr/bin/tool", 5, 6)
    (after / "usr/bin/tool").chmod(0o4755)
    (after / "etc/gone").unlink()
    shutil.rmtree(after / "old/deep")
    shutil.rmtree(after / "opt/folder")
    (after / "opt/folder").write_text("a file now\n")
    (after / "opt/file").unlink()
    (after / "opt/file").mkdir()
    (after / "opt/link").unlink()
    (after / "opt/link").symlink_to("-x")
    os.chown(after / "opt/link", 7, 8, follow_symlinks=False)
    found = captured(before, after)
    replayed = replay(before, found.script)
    assert found.left_out == []
    assert differences(after, replayed) == set()
    assert not (replayed / "pwned").exists()


def test_what_is_left_out(before: Path, after: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets, devices, caches, and what is too large are listed with the reason; nothing else differs."""
    monkeypatch.setattr(files, "MAX_FILE", 1000)
    monkeypatch.setattr(files, "MAX_TOTAL", 1500)
    os.mkfifo(after / "etc/pipe")
    (after / "etc/new\nline").touch()
    (after / "etc/ssh").mkdir()
    (after / "etc/ssh/ssh_host_ed25519_key").write_text("a secret")
    (after / "etc/key.pem").write_text("-----BEGIN PRIVATE KEY-----\nx\n")
    (after / "etc/large").write_bytes(bytes(1001))
    (after / "etc/x1").write_bytes(bytes(900))
    (after / "etc/x2").write_bytes(bytes(900))
    (after / "var/cache/kept").unlink()
    (after / "var/cache/new").touch()
    (after / "usr/__pycache__").mkdir()
    (after / "usr/__pycache__/x.pyc").touch()
    (after / "etc/shadow").write_text("root:$6$secret:1:0:99999:7:::\n")
    (after / "etc/passwd").write_text((before / "etc/passwd").read_text() + "new:x:7:7::/:/bin/sh\n\x1b:x:1:1::/:/x\n")
    found = captured(before, after)
    assert [what for what, _ in found.left_out] == [
        "/etc/key.pem",
        "/etc/large",
        "/etc/new\\nline",
        "/etc/passwd, /etc/group",
        "/etc/passwd: \\x1b",
        "/etc/pipe",
        "/etc/shadow",
        "/etc/shadow: the password of root",
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/x2",
        "/usr/__pycache__/",
        "/var/cache/",
    ]
    assert not any(secret in found.script for secret in ("secret", "PRIVATE KEY", "\x1b"))
    names = {what.partition(":")[0].partition(", ")[0] for what, _ in found.left_out}
    left = differences(after, replay(before, found.script)) - names
    assert left <= {"/var/cache/kept", "/var/cache/new", "/usr/__pycache__/x.pyc", "/usr/__pycache__"}


def test_too_many_files(before: Path, after: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script has a limited number of files, and of files to remove."""
    for module in (files, capture_module):
        monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    for number in range(5):
        (after / f"etc/new{number}").touch()
        (before / f"etc/old{number}").touch()
    found = captured(before, after)
    assert [what for what, _ in found.left_out] == ["/etc/new3", "/etc/new4", "/etc/old3", "/etc/old4"]


def test_mounted_files(before: Path, after: Path) -> None:
    """A script does not write a file that its jail replaces."""
    (after / "etc/gone").unlink()
    (after / "etc/motd").write_text("changed\n")
    found = capture(compare(before, after, after), before, after, {"/etc/motd", "/etc/gone"})
    assert [what for what, _ in found.left_out] == ["/etc/gone", "/etc/motd"]
    assert not ({"/etc/motd", "/etc/gone"} & set(found.script.split()))


def test_files_of_packages(before: Path, tmp_path: Path) -> None:
    """The package manager brings the files of new packages. What else was done to them is part of the script."""
    (before / "usr/bin/zypper").touch()
    packages = [
        Package("kept", files={"/opt/kept/file": b"x", "/opt/kept/edited": b"x"}, programs={"/opt/kept/mode": b"x"}),
        Package("dropped", files={"/opt/dropped/file": b"x"}, directories={"/opt/dropped": 0o755}),
    ]
    built = sorted(build_repository(tmp_path / "repository", packages).rglob("*.rpm"))
    rpm("--root", before, "--install", "--nodeps", "--nosignature", *(path for path in built if "dropped" in path.name))
    after = copy(before, "after")
    rpm("--root", after, "--install", "--nodeps", "--nosignature", *(path for path in built if "kept" in path.name))
    rpm("--root", after, "--erase", "dropped")
    (after / "opt/kept/edited").write_text("edited\n")
    (after / "opt/kept/mode").chmod(0o4755)
    (after / "opt/kept/more").touch()
    found, arch = captured(before, after), os.uname().machine
    _, _, commands = found.script.partition("\n# Packages\n")
    assert commands.splitlines() == [
        f"zypper -n install --no-recommends --oldpackage -- -dropped.{arch} kept.{arch}=1.0-1",
        "",
        "# Files",
        "folder /opt/kept 0755 0:0",
        "text /opt/kept/edited 0644 0:0 <<'END'",
        "edited",
        "END",
        "attributes /opt/kept/mode 4755 0:0",
        "text /opt/kept/more 0644 0:0 <<'END'",
        "END",
    ]
    assert [what for what, _ in found.left_out] == ["/var/lib/rpm/"]


@pytest.mark.parametrize("manager", SESSIONS)
def test_package_managers(tmp_path: Path, manager: str) -> None:
    """The commands install, replace and remove packages with the real package managers, to older versions, too."""
    older = build_repository(tmp_path / "older", [Package("changed", files={"/opt/changed": b"1"}), Package("added")])
    newer = build_repository(
        tmp_path / "newer", [Package("changed", version="2.0", files={"/opt/changed": b"2"}), Package("dropped")]
    )
    (tmp_path / "before/usr/bin").mkdir(parents=True)
    (tmp_path / "before/usr/bin" / manager).touch()
    install, session = SESSIONS[manager]
    run_manager(f"{install} changed dropped", tmp_path / "before", [newer])
    after = copy(tmp_path / "before", "after")
    run_manager(session, after, [older])
    replayed = copy(tmp_path / "before", "replayed")
    found = compare(tmp_path / "before", after, after)
    assert (len(found.packages_added), len(found.packages_removed), len(found.packages_upgraded)) == (1, 1, 1)
    run_manager("\n".join(package_section(found, after).commands), replayed, [older, newer])
    assert installed_packages(replayed) == installed_packages(after)
    assert (replayed / "opt/changed").read_text() == "1"


def run_manager(script: str, root: Path, repositories: list[Path]) -> None:
    """Run commands of a package manager of the host on an image root, with these repositories only."""
    zypper = f"zypper --root {root} --no-gpg-checks " + " ".join(f"--plus-repo {path}" for path in repositories)
    dnf = f"dnf --installroot {root} --releasever 1 --nogpgcheck " + " ".join(
        f"--repofrompath {path.name},{path} --repo {path.name}" for path in repositories
    )
    script = script.replace("zypper -n", f"{zypper} -n").replace("dnf -y", f"{dnf} -y")
    root.with_name(".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")  # Debian's rpm has it in the home folder
    home = {**os.environ, "HOME": str(root.parent)}
    done = subprocess.run(["sh", "-euc", script], env=home, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def rpm(*arguments: str | Path) -> None:
    """Run the rpm of the host."""
    subprocess.run(["rpm", "--dbpath", "/var/lib/rpm", *arguments], check=True, capture_output=True)
