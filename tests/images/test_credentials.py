"""Secrets in an image root: what is found, and what is left of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ims import masking
from ims.builder import image_secrets
from ims.errors import InputError
from ims.images.credentials import known_credentials, password_hashes, private_keys
from ims.masking import Secrets
from ims.workspace import Workspace

ID = "0123456789abcdef0123456789abcdef\n"
REMOVED = {
    "etc/ssh/ssh_host_ed25519_key": "private",
    "var/lib/dbus/machine-id": ID,
    "etc/apt/auth.conf": "machine h login u password p",
    "etc/apt/auth.conf.d/site.conf": "machine h login u password p",
    "etc/zypp/credentials.d/nexus": "username=u\npassword=p",
    "root/.bash_history": "mysql -p secret",
    "root/.kube/config": "token",
    "home/ada/.aws/credentials": "[default]",
    "home/ada/.docker/config.json": "{}",
    "home/ada/.config/gcloud/application_default_credentials.json": "{}",
}
EDITED = {
    "etc/machine-id": (ID, ""),
    "etc/apt/sources.list": ("deb http://u:p@h/debian bookworm main\n", "deb http://h/debian bookworm main\n"),
    "etc/apt/sources.list.d/a.sources": ("URIs: https://token@h/x\n", "URIs: https://h/x\n"),
    "etc/yum.repos.d/a.repo": ("[a]\nbaseurl=http://h\nusername=u\npassword = p\n", "[a]\nbaseurl=http://h\n"),
    "etc/zypp/repos.d/a.repo": ("[a]\nbaseurl=http://u:p@h/?a=b\n", "[a]\nbaseurl=http://h/?a=b\n"),
}
KEPT = {
    "etc/ssh/ssh_host_ed25519_key.pub": "public",
    "etc/ssh/sshd_config": "Port 22",
    "etc/zypp/zypp.conf": "password=p",
    "home/ada/.aws/config": "[default]",
    "home/ada/history": "of Rome",
    "etc/yum.repos.d/b.repo": "[b]\nbaseurl=http://h/a@b\n",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with an image root."""
    found = Workspace(tmp_path)
    found.image_root.mkdir()
    return found


def write(root: Path, name: str, text: str = "x") -> Path:
    """Write a file of an image root that is old."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for old in (path, path.parent):
        os.utime(old, (1000, 1000))
    return path


def test_secrets_are_removed(workspace: Workspace) -> None:
    """Files of programs that keep secrets go, logins of repositories are cut out; nothing else changes."""
    root = workspace.image_root
    for name, text in {**REMOVED, **KEPT, **{name: before for name, (before, _) in EDITED.items()}}.items():
        write(root, name, text).chmod(0o640)
    assert {item.name for item in known_credentials(root)} == {f"/{name}" for name in (*REMOVED, *EDITED)}
    image_secrets.check(workspace, is_built=True)
    left = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    expected = {**KEPT, **{name: after for name, (_, after) in EDITED.items()}}
    assert {name: path.read_text() for name, path in left.items()} == expected
    assert {path.stat().st_mode & 0o777 for path in left.values()} == {0o640}
    assert {path.stat().st_mtime for path in (*left.values(), root / "etc/ssh")} == {1000}
    assert known_credentials(root) == []


def test_links_lead_nowhere(workspace: Workspace, tmp_path: Path) -> None:
    """A link in an image cannot make the check read or remove a file outside of it."""
    outside = write(tmp_path / "outside", "ssh_host_rsa_key")
    root = workspace.image_root
    write(root, "etc/ssh/sshd_config").unlink()
    (root / "etc/ssh/ssh_host_rsa_key").symlink_to(outside)
    (root / "etc/apt").symlink_to(tmp_path / "outside")
    (root / "home").symlink_to(tmp_path)
    os.mkfifo(root / "etc/machine-id")
    image_secrets.check(workspace, is_built=True)
    assert outside.exists()


def test_deliberate_host_keys(workspace: Workspace) -> None:
    """Host keys of the recipe's overlay and of customized images stay."""
    key = write(workspace.image_root, "etc/ssh/ssh_host_rsa_key")
    image_secrets.check(workspace, is_built=False)
    assert key.exists()
    write(workspace.recipe / "root", "etc/ssh/ssh_host_rsa_key")
    image_secrets.check(workspace, is_built=True)
    assert key.exists()


def test_settings(workspace: Workspace, configure: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """An administrator may refuse secrets, or keep them with a warning."""
    history = write(workspace.image_root, "root/.bash_history")
    configure(image_secrets="refuse")
    with pytest.raises(InputError, match=r"contains secrets: /root/\.bash_history \(the history of a shell\)"):
        image_secrets.check(workspace, is_built=True)
    configure(image_secrets="keep")
    image_secrets.check(workspace, is_built=True)
    assert history.exists()
    assert "the image contains /root/.bash_history" in caplog.text


@pytest.mark.parametrize("form", range(3))
def test_secret_of_the_recipe(workspace: Workspace, form: int, configure: Callable[..., None]) -> None:
    """An image with a secret of its recipe is refused, however it is spelled; names of users may occur."""
    masking.save(workspace.secrets, Secrets(passwords=["planted+secret", "short"], users=["jenkins-ci"]))
    write(workspace.image_root, "etc/passwd", "jenkins-ci:x:1000")
    write(workspace.image_root, "image/config.xml", "planted+secret")
    image_secrets.check(workspace, is_built=True)
    spelling = sorted(masking.spellings("planted+secret"))[form]
    write(workspace.image_root, "opt/app/x.conf", f"short {spelling}")
    with pytest.raises(InputError, match=r"a secret of the recipe in /opt/app/x\.conf"):
        image_secrets.check(workspace, is_built=True)
    configure(image_secrets="keep")
    image_secrets.check(workspace, is_built=True)


def test_private_keys(tmp_path: Path) -> None:
    """Keys in their usual places, but no public ones."""
    names = ["etc/krb5.keytab", "etc/munge/munge.key", "etc/ssl/private/node.pem", "home/ada/.ssh/id_ed25519"]
    for name in (*names, "home/ada/.ssh/id_ed25519.pub", "home/ada/.ssh/known_hosts", "etc/krb5.conf"):
        write(tmp_path, name)
    assert [item.name for item in private_keys(tmp_path)] == [f"/{name}" for name in names]
    assert not known_credentials(tmp_path)


def test_password_hashes(tmp_path: Path) -> None:
    """Those of locked accounts, too; accounts without a password have none."""
    write(tmp_path, "etc/shadow", "root:$y$a:1::\nada:!$6$b:1::\nbin:*:1::\nsync:!:1::\nnew:!!:1::\nopen::1::\n")
    write(tmp_path, "etc/gshadow", "wheel:!::ada\nlab:$6$c::\n")
    assert password_hashes(tmp_path) == {b"$y$a": "/etc/shadow", b"$6$b": "/etc/shadow", b"$6$c": "/etc/gshadow"}


def test_password_file_that_is_too_large(tmp_path: Path) -> None:
    """Whoever changes it may have removed a password."""
    write(tmp_path, "etc/shadow", "root:$y$a:1::\n" * 100_000)
    before = password_hashes(tmp_path)
    assert list(before.values()) == ["/etc/shadow"]
    assert password_hashes(tmp_path) == before
    write(tmp_path, "etc/shadow", "root:$y$b:1::\n" * 100_000)
    assert not set(password_hashes(tmp_path)) & set(before)
