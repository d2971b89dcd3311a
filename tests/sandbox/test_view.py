"""What a box gets to see of the host's configuration and environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ims.sandbox import view
from ims.sandbox.call import public_environment
from ims.sandbox.view import View


def test_private_files_are_not_copied(tmp_path: Path) -> None:
    """Only what every user of the host may read; no pipes, sockets and devices."""
    source, target = tmp_path / "etc", tmp_path / "copy"
    (source / "private").mkdir(parents=True)
    for name, mode in {"public": 0o644, "secret": 0o600, "group": 0o640, "private/file": 0o644}.items():
        (source / name).write_text(name)
        (source / name).chmod(mode)
    (source / "private").chmod(0o700)
    (source / "link").symlink_to("secret")
    os.mkfifo(source / "pipe")
    (source / "pipe").chmod(0o666)
    view._copy(source, target)
    assert sorted(path.name for path in target.rglob("*")) == ["link", "public"]
    view._copy(source / "secret", target / "secret")
    assert not (target / "secret").exists()


def test_environment_is_a_list_of_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither credentials nor proxies, whose addresses may have a login."""
    for name in ("AWS_SECRET_ACCESS_KEY", "http_proxy", "DB_PASSWORD", "IMS_DATABASE_URL", "AIRFLOW_CONN_IMS_S3"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("IMS_LOG_LEVEL", "INFO")
    found = public_environment()
    assert found["IMS_LOG_LEVEL"] == "INFO"
    assert "secret" not in found.values()


def test_view_as_text() -> None:
    """The program that makes the box reads what the caller wrote."""
    folders = View((Path("/a"),), readable=(Path("/b"),), hidden=(Path("/a/c"),), everyone=True, network=7)
    assert View.from_json(folders.to_json()) == folders
