"""The commands of a captured script for packages, accounts and services."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from ims.images.capture.accounts import added_accounts, removed_accounts
from ims.images.capture.capture import Captured, capture, write_archive
from ims.images.capture.files import Entry
from ims.images.capture.owners import Owned, owned_files
from ims.images.capture.package_commands import package_section
from ims.images.capture.services import service_section
from ims.images.changes import Difference
from ims.recipes.unpacking import extract

SYSTEM = "/etc/systemd/system"
UNITS = "/usr/lib/systemd/system"
APT = "apt-get -q -y --no-install-recommends --allow-downgrades -o Dpkg::Options::=--force-confold install"


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The image before the changes."""
    return write(tmp_path / "before", {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"})


@pytest.fixture
def after(tmp_path: Path) -> Path:
    """The image after the changes, with the programs that the commands need."""
    return write(tmp_path / "after", dict.fromkeys(("usr/sbin/useradd", "usr/bin/systemctl"), ""))


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files below a root."""
    for name, text in files.items():
        (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / name.lstrip("/")).write_text(text)
    return root


DEB = Difference(
    packages_added=["htop:amd64 3.2.2-2", "tzdata:all 2026a-1"],
    packages_removed=["nano:amd64 7.2-1"],
    packages_upgraded=["bash:amd64 5.1 -> 1:5.2~rc1+b1"],
)
RPM = Difference(
    packages_added=["htop.x86_64 3.2-1"],
    packages_removed=["nano.noarch 7-2"],
    packages_upgraded=["a.x86_64 1-1 -> 1:2-1"],
)


@pytest.mark.parametrize(
    ("found", "manager", "commands"),
    [
        (
            DEB,
            "apt-get",
            [
                "export DEBIAN_FRONTEND=noninteractive",
                "apt-get -q update",
                f"{APT} nano:amd64- htop:amd64=3.2.2-2 tzdata=2026a-1 'bash:amd64=1:5.2~rc1+b1'",
            ],
        ),
        (
            RPM,
            "zypper",
            ["zypper -n install --no-recommends --oldpackage -- -nano.noarch htop.x86_64=3.2-1 a.x86_64=1:2-1"],
        ),
        (
            RPM,
            "dnf",
            [
                "dnf -y --setopt=clean_requirements_on_remove=False remove nano.noarch",
                "dnf -y --setopt=install_weak_deps=False install htop-3.2-1.x86_64 a-1:2-1.x86_64",
            ],
        ),
    ],
    ids=["apt", "zypper", "dnf"],
)
def test_packages(after: Path, found: Difference, manager: str, commands: list[str]) -> None:
    """The package manager of the image gets the exact versions, and what to remove."""
    write(after, {f"usr/bin/{manager}": ""})
    section = package_section(found, after)
    assert (section.commands, section.left_out) == (commands, [])


def test_packages_without_a_manager(after: Path) -> None:
    """Packages are listed if the image cannot install them, or if their names are none."""
    assert [what for what, _ in package_section(RPM, after).left_out] == [
        "removal of package nano.noarch",
        "package htop.x86_64 3.2-1",
        "package a.x86_64 1:2-1",
    ]
    write(after, {"usr/bin/dnf": ""})
    hostile = Difference(packages_added=["-x.noarch 1", "a;id.noarch 1", "a.noarch 1; id", "kernel.x86_64 1, 2"])
    section = package_section(hostile, after)
    assert section.commands == []
    assert len(section.left_out) == 4


@pytest.mark.system
def test_package_sources(before: Path, after: Path) -> None:
    """Sources are written before packages are installed; what these packages bring is edited after that."""
    source, configuration, folder = "/etc/apt/sources.list.d/own.list", "/etc/apt/apt.conf.d/50new", "/etc/new"
    write(after, {name: (before / name).read_text() for name in ("etc/passwd", "etc/group")})
    write(after, {"usr/bin/apt-get": "", source: "deb x y\n", configuration: "edited\n"})
    write(after, {"var/lib/dpkg/info/new.list": f"/etc/apt\n/etc/apt/apt.conf.d\n{configuration}\n{folder}\n"})
    (after / "etc/new").mkdir()
    (after / "etc/new").chmod(0o700)
    added = [source, configuration, "/etc/apt/", "/etc/apt/apt.conf.d/", "/etc/new/"]
    script = capture(Difference(files_added=added, packages_added=["new:all 1"]), before, after).script
    _, _, commands = script.partition("\n# Package sources\n")
    assert commands.splitlines() == [
        "mkdir -p /etc/apt/sources.list.d",
        f"text {source} 0644 0:0 <<'END'",
        "deb x y",
        "END",
        "",
        "# Packages",
        "export DEBIAN_FRONTEND=noninteractive",
        "apt-get -q update",
        f"{APT} new=1",
        "",
        "# Files",
        f"text {configuration} 0644 0:0 <<'END'",
        "edited",
        "END",
        f"attributes {folder} 0700 0:0",
    ]


def test_unknown_packages(after: Path) -> None:
    """If it is unknown which packages changed, the script installs none, and this is listed."""
    section = package_section(Difference(packages_added=["a.noarch 1"], unknown="it is damaged"), after)
    assert (section.commands, section.left_out) == ([], [("packages", "unknown: it is damaged")])


def test_files_of_deb_packages(after: Path) -> None:
    """Digests come from the lists of dpkg, also for configuration files, and links of folders are followed."""
    digest = "0" * 32
    status = f"Package: tiny\nConffiles:\n /etc/tiny.conf {digest[1:]}1 obsolete\n"
    info = {"tiny.list": "/.\n/bin/tiny\n/etc/tiny.conf\n", "tiny.md5sums": f"{digest}  bin/tiny\n"}
    write(after, {"var/lib/dpkg/status": status, **{f"var/lib/dpkg/info/{name}": text for name, text in info.items()}})
    (after / "bin").symlink_to("usr/bin")
    found = owned_files(after, {"tiny:all", "../../../etc/passwd:all"})
    assert found["/usr/bin/tiny"] == Owned(digest)
    assert found["/etc/tiny.conf"] == Owned(f"{digest[1:]}1")
    assert owned_files(after, {"other:all"}) == {}


def test_accounts(before: Path, after: Path) -> None:
    """Users and groups get their ids, and no password. Fields are quoted."""
    passwd = "root:x:0:0:root:/root:/bin/bash\nann:x:1500:1600:Ann $(id) 'x':/home/ann:/bin/sh\n"
    write(after, {"etc/passwd": passwd, "etc/group": "root:x:0:ann\nstaff:x:1600:root,nobody-else\n"})
    write(before, {"etc/passwd": (before / "etc/passwd").read_text() + "old:x:9:9::/:/bin/sh\n"})
    write(after, {"etc/shadow": "root:!:1::::::\nann:$6$secret:1::::::\n"})
    section = added_accounts(before, after)
    assert section.commands == [
        "is_known /etc/group staff || groupadd -g 1600 staff",
        "usermod -u 0 -g 0 -c root -d /root -s /bin/bash root",
        "is_known /etc/passwd ann || useradd -M -K SUB_UID_COUNT=0 -K SUB_GID_COUNT=0 -u 1500 -g 1600 "
        "-c 'Ann $(id) '\"'\"'x'\"'\"'' -d /home/ann -s /bin/sh ann",
        "usermod -a -G root ann",
        "usermod -a -G staff root",
    ]
    assert [what for what, _ in section.left_out] == ["/etc/shadow: the password of ann"]
    assert removed_accounts(before, after).commands == ["! is_known /etc/passwd old || userdel old"]


@pytest.mark.parametrize(
    "line",
    ["ann;id:x:1:1::/:/x", "ann:x:1;id:1::/:/x", "ann:x:1:1", "-x:x:1:1::/:/x", "ann:x:1:1:\x1b[2J:/:/x", "+::::::"],
)
def test_unusual_accounts(before: Path, after: Path, line: str) -> None:
    """Lines that are not those of an account are listed, and become no command."""
    write(after, {"etc/passwd": f"root:x:0:0:root:/root:/bin/sh\n{line}\n", "etc/group": "root:x:0:\n"})
    section = added_accounts(before, after)
    assert section.commands == []
    assert len(section.left_out) == 1


def test_services(before: Path, after: Path) -> None:
    """Links that systemctl makes are commands. If a unit has other links, they remain links."""
    install = "[Unit]\n[Install]\nWantedBy=multi-user.target\nAlias=nick.service\n"
    for root in (before, after):
        write(root, {f"{UNITS}/{name}.service": install for name in ("on", "off", "half", "masked")})
    wants = f"{SYSTEM}/multi-user.target.wants"
    off = {f"{wants}/off.service": f"{UNITS}/off.service", f"{SYSTEM}/nick.service": f"{UNITS}/off.service"}
    added = {
        f"{wants}/on.service": f"{UNITS}/on.service",
        f"{SYSTEM}/nick.service": f"{UNITS}/on.service",
        f"{wants}/half.service": f"{UNITS}/half.service",
        f"{SYSTEM}/masked.service": "/dev/null",
        f"{SYSTEM}/other.service": "/dev/null",
        f"{wants}/$(id).service": f"{UNITS}/$(id).service",
    }
    section, explained = service_section(added, off, before, after)
    assert section.commands == [
        "SYSTEMD_OFFLINE=1 systemctl enable on.service",
        "SYSTEMD_OFFLINE=1 systemctl disable off.service",
        "SYSTEMD_OFFLINE=1 systemctl mask masked.service",
    ]
    names = (f"{wants}/on.service", f"{SYSTEM}/nick.service", f"{wants}/off.service", f"{SYSTEM}/masked.service")
    assert explained == set(names)


def test_no_changes(before: Path, after: Path) -> None:
    """Without changes, the script only defines its functions."""
    write(after, {"etc/passwd": (before / "etc/passwd").read_text(), "etc/group": (before / "etc/group").read_text()})
    found = capture(Difference(), before, after)
    assert not found.script.splitlines()[-1].startswith("#")
    assert (found.files, found.left_out) == ([], [])


def test_archive(tmp_path: Path) -> None:
    """The archive can be unpacked as a recipe is. Equal changes give equal bytes."""
    entries = [
        Entry("/etc/x", "folder", "0750", "0:0"),
        Entry("/etc/x/ü", "file", "0600", "0:0", content=b"x"),
        Entry("/etc/absolute", "link", "0777", "0:0", "/usr/bin/x"),
        Entry("/etc/out", "link", "0777", "0:0", "../../../x"),
    ]
    captured, archive = Captured("#!/bin/sh\n", entries), tmp_path / "a.tar.gz"
    write_archive(captured, archive)
    first = archive.read_bytes()
    write_archive(captured, archive)
    assert archive.read_bytes() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert [member.name for member in tar][:3] == ["customize.sh", "site.yml", "NOT-CAPTURED.txt"]
    (tmp_path / "unpacked").mkdir()
    extract(archive, tmp_path / "unpacked", 10_000, 100, is_recipe=True)
    assert (tmp_path / "unpacked/root/etc/x/ü").read_bytes() == b"x"
    assert (tmp_path / "unpacked/root/etc/absolute").is_symlink()
    assert not (tmp_path / "unpacked/root/etc/out").is_symlink()
