"""Which files `ims public-keys create` sends to the service."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.fake_service import FakeService, Program, connect_to
from tests.service import PUBLIC_KEY

CREATE = ("public-keys", "create", "--name", "me", "--public-key")


@pytest.fixture
def fake() -> FakeService:
    """A service without records."""
    return FakeService()


@pytest.fixture
def program(fake: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program, connected to the service."""
    return connect_to(fake, monkeypatch, tmp_path)


def test_a_public_key_is_sent(program: Program, fake: FakeService, tmp_path: Path) -> None:
    """As it stands in the file."""
    path = tmp_path / "id.pub"
    path.write_text(f"\n{PUBLIC_KEY}\n")
    program.json(*CREATE, path)
    assert fake.sent("POST") == [{"name": "me", "public_key": f"\n{PUBLIC_KEY}\n"}]


@pytest.mark.system
@pytest.mark.parametrize("options", [(), ("-m", "PEM"), ("-m", "PKCS8"), ("-N", "passphrase")])
def test_a_private_key_is_never_sent(
    program: Program, fake: FakeService, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The error names the file to use. Nothing reaches the service."""
    path = tmp_path / "id_ecdsa"
    empty = () if "-N" in options else ("-N", "")
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", *empty, *options, "-f", path], check=True)
    refused = program.refused(*CREATE, path)
    assert refused == f"{path} contains a private key, which was not sent. Use {path}.pub"
    assert fake.requests == []


@pytest.mark.parametrize(
    "content",
    [
        b"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\nsecret\n",
        PUBLIC_KEY.encode() + b"\n-----BEGIN OPENSSH PRIVATE KEY-----\n",
        b"secret",
        b"\xff\xfe\x00",
        b"",
    ],
)
def test_nothing_but_a_public_key_is_sent(program: Program, fake: FakeService, tmp_path: Path, content: bytes) -> None:
    """A file that is chosen by mistake may contain a secret."""
    path = tmp_path / "file"
    path.write_bytes(content)
    assert "not sent" in program.refused(*CREATE, path)
    assert fake.requests == []
