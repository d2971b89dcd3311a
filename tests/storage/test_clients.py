"""The clients of S3 that share what botocore parses."""

from __future__ import annotations

import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.loaders import JSONFileLoader

from ims.storage.clients import client, client_config, preload

URL = "http://192.0.2.1:8333"


def signed_url(keys: ReadOnlyCredentials) -> str:
    """Return an address that a new client has signed."""
    made = client("s3", URL, keys, client_config(URL), verify=False)
    return str(made.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"}))


def test_each_client_has_its_own_keys() -> None:
    """Clients share no credentials, although they share a session."""
    temporary, fixed = ReadOnlyCredentials("first", "secret", "token"), ReadOnlyCredentials("second", "secret", None)
    assert "first%2F" in signed_url(temporary)
    assert "X-Amz-Security-Token=token" in signed_url(temporary)
    assert "second%2F" in signed_url(fixed)
    assert "Security-Token" not in signed_url(fixed)
    assert signed_url(fixed).startswith(f"{URL}/bucket/key?")


def test_clients_share_what_was_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task makes a client. To parse the descriptions of both services takes 0.15 s of a processor."""
    preload()
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _self, path: pytest.fail(f"{path} is read again"))
    keys = ReadOnlyCredentials("key", "secret", None)
    for service in ("s3", "sts"):
        client(service, URL, keys, client_config(URL))
