"""zypper, rpm and dnf in the shell of an image, with a repository over http. See also tests/flows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.images.packages import installed_packages
from ims.images.rpm import find_databases
from ims.shell import tools
from tests.flows import rpm_repository
from tests.flows.rpm_repository import Package, RepositoryServer, build_repository
from tests.images.rpm_databases import NAMES, build_packages, make_database, rpm_with_ndb
from tests.shell.small_image import pack, write_root
from tests.shell.test_shell import Shell, make_key

pytestmark = pytest.mark.system

EXTRA = Package(
    "extra",
    version="2.0",
    files={"/etc/extra.conf": b"extra\n"},
    directories={"/var/lib/extra": 0o2750},
    post="echo installed > /var/lib/extra/state; chown 5:6 /var/lib/extra; mkfifo /var/lib/extra/pipe",
)


SYSTEM = (*rpm_repository.basic_packages(), rpm_repository._package_manager())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with everything that the image has, and one more package."""
    return build_repository(tmp_path_factory.mktemp("repository"), [*SYSTEM, EXTRA])


@pytest.fixture(scope="module")
def repository(packages: Path) -> Iterator[RepositoryServer]:
    """The repository over http."""
    with RepositoryServer(packages) as server:
        yield server


@pytest.fixture(scope="module")
def rootfs(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with zypper and rpm."""
    folder = tmp_path_factory.mktemp("image")
    paths = [next(packages.rglob(f"{package.name}-*.rpm")) for package in SYSTEM]
    install = [
        "rpm",
        "--root",
        str(folder / "root"),
        "--dbpath",
        "/var/lib/rpm",
        "--install",
        "--nosignature",
        *map(str, paths),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return pack(folder / "root", folder / "rootfs")


def serve(rootfs: Path, folder: Path, *, jail: bool) -> Iterator[Shell]:
    """A shell in the image, in which repositories can be reached."""
    shell = Shell(make_key(folder, "user"), rootfs, jail=jail).start()
    yield shell
    shell.remove()


@pytest.fixture
def jailed(rootfs: Path, tmp_path: Path) -> Iterator[Shell]:
    """A shell in the jail."""
    yield from serve(rootfs, tmp_path, jail=True)


@pytest.fixture
def unjailed(rootfs: Path, tmp_path: Path) -> Iterator[Shell]:
    """A shell with the host's tools."""
    yield from serve(rootfs, tmp_path, jail=False)


def check(shell: Shell) -> None:
    """The package is installed with its owners and capabilities, and is in the database of the image's own rpm."""
    state = shell.upper / "var/lib/extra"
    assert (state.stat().st_mode & 0o7777, state.stat().st_uid, state.stat().st_gid) == (0o2750, 5, 6)
    assert (state / "state").read_text() == "installed\n"
    assert (state / "pipe").is_fifo()
    assert (shell.upper / "etc/extra.conf").read_text() == "extra\n"
    assert installed_packages(shell.upper)["extra.x86_64"] == "2.0-1"


def test_zypper_in_the_image(jailed: Shell, repository: RepositoryServer) -> None:
    """Addresses, names and scripts work like on any host."""
    jailed.says(f"zypper --non-interactive addrepo --no-gpgcheck {repository.url} extra")
    jailed.says("zypper --non-interactive install extra")
    assert jailed.says("/usr/bin/rpm --query extra") == "extra-2.0-1.x86_64"
    check(jailed)
    jailed.says("zypper --non-interactive remove extra")
    assert not (jailed.upper / "etc/extra.conf").exists()


@pytest.mark.parametrize(
    "command",
    [
        "zypper --root $ROOT --non-interactive addrepo --no-gpgcheck URL extra && zypper --root $ROOT -n install extra",
        "dnf --installroot $ROOT --repofrompath extra,URL --repo extra --nogpgcheck --releasever 1 -y install extra",
    ],
    ids=["zypper", "dnf"],
)
def test_package_manager_of_the_host(unjailed: Shell, repository: RepositoryServer, command: str) -> None:
    """It installs packages into an image that has no package manager."""
    unjailed.says(f"ROOT=$IMS_IMAGE_ROOT; {command.replace('URL', repository.url)}")
    check(unjailed)


@pytest.fixture(scope="module")
def suse(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image like SUSE's: its own rpm keeps the database in the format ndb. It has no zypper and no dnf."""
    folder = tmp_path_factory.mktemp("suse")
    root = write_root(folder / "root")
    program = rpm_with_ndb()
    for source, target in ((program, "usr/bin/rpm"), *((file, str(file)[1:]) for file in tools.libraries(program))):
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / target)
    settings = root / "usr/local/lib/rpm"
    settings.mkdir(parents=True)
    shutil.copy("/usr/lib/rpm/rpmrc", settings)
    macros = Path("/usr/lib/rpm/macros").read_text()
    (settings / "macros").write_text(f"{macros}\n%_db_backend ndb\n%_dbpath /usr/lib/sysimage/rpm\n")
    make_database(root / "usr/lib/sysimage/rpm", "ndb", build_packages(folder))
    shutil.copy(next(packages.rglob("extra-*.rpm")), root / "root")
    return pack(root, folder / "rootfs")


@pytest.fixture
def unjailed_suse(suse: Path, tmp_path: Path) -> Iterator[Shell]:
    """A shell with the host's tools in such an image."""
    yield from serve(suse, tmp_path, jail=False)


def test_rpm_of_the_image(unjailed_suse: Shell) -> None:
    """The image's own rpm is used for a database that this machine's rpm cannot write; others are refused.

    There never is a second database.
    """
    shell = unjailed_suse
    installed = shell.says("rpm --root $IMS_IMAGE_ROOT --query --all --queryformat '%{NAME}.%{ARCH}\\n'")
    assert sorted(installed.split()) == sorted(NAMES)
    shell.says("cp $IMS_IMAGE_ROOT/root/extra-*.rpm /tmp/")
    refused = {
        "rpm --install --nodeps --nosignature /tmp/extra-*.rpm": "Give --root /mnt/image/image-root",
        "rpm --root /tmp --install --nodeps --nosignature /tmp/extra-*.rpm": "Give --root /mnt/image/image-root",
        "zypper --root $IMS_IMAGE_ROOT --non-interactive install extra": "The image has no /usr/bin/zypper",
        "/usr/bin/dnf --installroot=$IMS_IMAGE_ROOT -y install extra": "The image has no /usr/bin/dnf",
    }
    for command, message in refused.items():
        assert message in shell.says(f"{command} 2>&1 || true")
    assert not (shell.upper / "etc/extra.conf").exists()
    shell.says("rpm --root=$IMS_IMAGE_ROOT/ --install --nodeps --nosignature /tmp/extra-*.rpm")
    check(shell)
    assert [item.format for item in find_databases(shell.upper)] == ["ndb"]
    shell.says("rpmdb --root $IMS_IMAGE_ROOT --initdb || true")
    assert [item.format for item in find_databases(shell.upper)] == ["ndb"]
