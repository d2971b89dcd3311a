"""The client of S3, against the S3 of the stack and through a relay that damages answers."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from ims.errors import ConfigurationError, ImsError, InputError, MissingError, UnavailableError
from ims.settings import Settings
from ims.storage.digests import digest_file
from ims.storage.objects import PART_SIZE, ObjectName, ObjectStore, StoredObject
from tests.service import Service

Spoil = Callable[[bytes], bytes]
LARGE = 2 * PART_SIZE + 12345


@pytest.fixture
def name(service: Service) -> Iterator[ObjectName]:
    """The name of an object that does not exist, below a prefix that is deleted after the test."""
    prefix = f"test-{uuid4()}"
    yield ObjectName(service.settings.images_bucket, f"{prefix}/object")
    service.store.delete_prefix(service.settings.images_bucket, f"{prefix}/")


@pytest.fixture
def store(service: Service) -> ObjectStore:
    """The S3 of the stack."""
    return service.store


@contextmanager
def relay(service: Service, spoil: Spoil) -> Iterator[ObjectStore]:
    """A store whose relay applies `spoil` to the answers to GET. Requests reach S3 unchanged."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._pass_on(spoil)

        def do_HEAD(self) -> None:
            self._pass_on(lambda body: body)

        def do_PUT(self) -> None:
            self._pass_on(lambda body: body)

        def _pass_on(self, change: Spoil) -> None:
            upstream, sent = connection(service.settings), self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream.request(self.command, self.path, sent or None, headers=dict(self.headers))
            answer = upstream.getresponse()
            body = change(answer.read())
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                self.send_header(key, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, _format: str, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield service.store_at(f"http://127.0.0.1:{server.server_port}", attempts=1)
        server.shutdown()


def connection(settings: Settings) -> http.client.HTTPConnection:
    """A connection to S3: the embedded one, or one with a certificate of the site's CA."""
    url = httpx.URL(settings.endpoint_url)
    if url.scheme == "http":
        return http.client.HTTPConnection(url.host, url.port)
    trusted = ssl.create_default_context(cafile=settings.ca_certificate_path)
    return http.client.HTTPSConnection(url.host, url.port, context=trusted)


def files(folder: Path) -> list[str]:
    """The names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


# Upload and download


@pytest.mark.parametrize("size", [0, 1, 5000, LARGE])
def test_upload_and_download(store: ObjectStore, name: ObjectName, tmp_path: Path, size: int) -> None:
    """The object has the checksums in its metadata; a large file is uploaded in parts."""
    data = (b"%016d" % 7 * (size // 16 + 1))[:size]
    (tmp_path / "up").write_bytes(data)
    stored = store.upload(tmp_path / "up", name, {"x-label": "value"})
    assert stored.size == size
    assert stored.metadata == {
        "x-label": "value",
        "md5sum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert stored.etag.endswith("-3") == (size == LARGE)
    assert '"' not in stored.etag
    digests = store.download(name, tmp_path / "down")
    assert (digests.size, digests.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert (tmp_path / "down").read_bytes() == data
    assert files(tmp_path) == ["down", "up"]


def test_upload_replaces(store: ObjectStore, name: ObjectName, tmp_path: Path) -> None:
    """A retried step can write the same object again."""
    for content in ("first", "second"):
        (tmp_path / "up").write_text(content)
        store.upload(tmp_path / "up", name, {})
    assert store.read_bytes(name, limit=10) == b"second"


def test_small_object(store: ObjectStore, name: ObjectName) -> None:
    """It is written and read in one piece, up to a limit."""
    etag = store.write_bytes(name, b"12345")
    assert store.stat(name) == StoredObject(5, etag, {})
    assert store.read_bytes(name, limit=5) == b"12345"
    with pytest.raises(InputError, match=f"{name} is larger than 4 bytes"):
        store.read_bytes(name, limit=4)


# Damage


WRONG = {
    "sha256": ({"sha256": "0" * 64}, "sha256"),
    "md5sum": ({"md5sum": "0" * 32}, "md5"),
    "one of two": ({"md5sum": hashlib.md5(b"data", usedforsecurity=False).hexdigest(), "sha256": "0" * 64}, "sha256"),
}


@pytest.mark.parametrize(("labels", "kind"), WRONG.values(), ids=WRONG)
def test_wrong_checksum_is_refused(
    store: ObjectStore, name: ObjectName, tmp_path: Path, labels: dict[str, str], kind: str
) -> None:
    """If an object does not match its own metadata, another try cannot help, and no file is left."""
    store._client.put_object(Bucket=name.bucket, Key=name.key, Body=b"data", Metadata=labels)
    with pytest.raises(InputError, match=f"{name} is damaged: its {kind} is .*, its record in S3 says 0000"):
        store.download(name, tmp_path / "down")
    assert files(tmp_path) == []


def test_checksum_in_upper_case(store: ObjectStore, name: ObjectName, tmp_path: Path) -> None:
    """Clients may write checksums in either case."""
    labels = {"sha256": hashlib.sha256(b"data").hexdigest().upper()}
    store._client.put_object(Bucket=name.bucket, Key=name.key, Body=b"data", Metadata=labels)
    store.download(name, tmp_path / "down")


def test_object_without_checksums_is_compared_with_its_etag(service: Service, name: ObjectName, tmp_path: Path) -> None:
    """An ETag that looks like an MD5 is compared with the content."""
    service.store.write_bytes(name, b"data")
    with (
        relay(service, lambda body: body.replace(b"d", b"t")) as damaged,
        pytest.raises(InputError, match=f"{name} is damaged: its md5 is"),
    ):
        damaged.download(name, tmp_path / "down")
    assert files(tmp_path) == []


def test_damaged_download(service: Service, name: ObjectName, tmp_path: Path) -> None:
    """The checksums from the upload reveal bytes that changed on the way."""
    (tmp_path / "up").write_bytes(b"data" * 1000)
    service.store.upload(tmp_path / "up", name, {})
    with relay(service, lambda body: body.replace(b"d", b"t", 1)) as damaged, pytest.raises(ImsError, match=str(name)):
        damaged.download(name, tmp_path / "down")
    assert files(tmp_path) == ["up"]


def test_interrupted_download_may_be_retried(service: Service, name: ObjectName, tmp_path: Path) -> None:
    """Half an object leaves no file."""
    service.store.write_bytes(name, b"data" * 1000)
    with (
        relay(service, lambda body: body[: len(body) // 2]) as broken,
        pytest.raises(UnavailableError, match=str(name)),
    ):
        broken.download(name, tmp_path / "down")
    assert files(tmp_path) == []


def test_upload_is_verified(service: Service, name: ObjectName, tmp_path: Path) -> None:
    """The object is read back and compared with the file."""
    (tmp_path / "up").write_bytes(b"data" * 1000)
    with relay(service, lambda body: body) as whole:
        assert whole.upload(tmp_path / "up", name, {}).size == 4000
    with (
        relay(service, lambda body: body.replace(b"d", b"t", 1)) as damaged,
        pytest.raises(UnavailableError, match=f"the content of {name} in S3 differs"),
    ):
        damaged.upload(tmp_path / "up", name, {})


def test_upload_of_a_file_that_changed(store: ObjectStore, name: ObjectName, tmp_path: Path) -> None:
    """The upload compares the object with the digests that were computed before."""
    (tmp_path / "up").write_bytes(b"data")
    known = digest_file(tmp_path / "up")
    assert store.upload(tmp_path / "up", name, {}, known).metadata["sha256"] == known.sha256
    (tmp_path / "up").write_bytes(b"date")
    with pytest.raises(UnavailableError, match=f"the content of {name} in S3 differs"):
        store.upload(tmp_path / "up", name, {}, known)


# Errors


def test_missing_object(store: ObjectStore, name: ObjectName, tmp_path: Path) -> None:
    """Every method names it, and none leaves a file."""
    attempts: list[Callable[[], object]] = [
        lambda: store.stat(name),
        lambda: store.read_bytes(name, limit=1),
        lambda: store.download(name, tmp_path / "down"),
    ]
    for attempt in attempts:
        with pytest.raises(MissingError, match=f"{name} does not exist in S3"):
            attempt()
    assert files(tmp_path) == []


def test_missing_bucket(store: ObjectStore, tmp_path: Path) -> None:
    """Every method names it, for reading and for writing."""
    gone = ObjectName("no-such-bucket", "key")
    (tmp_path / "up").write_text("x")
    attempts: list[Callable[[], object]] = [
        lambda: store.stat(gone),
        lambda: store.write_bytes(gone, b""),
        lambda: store.upload(tmp_path / "up", gone, {}),
        lambda: store.delete_prefix(gone.bucket, "x/"),
    ]
    for attempt in attempts:
        with pytest.raises(MissingError, match="s3://no-such-bucket/"):
            attempt()


@pytest.mark.parametrize("wrong", ["access key", "secret key"])
def test_wrong_credentials(service: Service, name: ObjectName, tmp_path: Path, wrong: str) -> None:
    """They are an error of the configuration, and no error contains a key."""
    keys = {"access key": service.credentials.s3_access_key, "secret key": service.credentials.s3_secret_key}
    keys[wrong] = "A" * 20
    stranger = ObjectStore.connect(service.settings.endpoint_url, *keys.values(), attempts=1)
    (tmp_path / "up").write_text("x")
    attempts: list[Callable[[], object]] = [
        lambda: stranger.stat(name),
        lambda: stranger.write_bytes(name, b""),
        lambda: stranger.upload(tmp_path / "up", name, {}),
        lambda: stranger.delete_prefix(name.bucket, "x/"),
    ]
    for attempt in attempts:
        with pytest.raises(ConfigurationError, match="S3 refuses access to s3://") as caught:
            attempt()
        assert not any(key in str(caught.value) for key in keys.values())
        assert "credentials" in caught.value.hint


def test_unreachable_s3(tmp_path: Path) -> None:
    """With one attempt, the error comes at once. Another try may help."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store = ObjectStore.connect(f"http://127.0.0.1:{port}", "key", "secret", attempts=1)
    (tmp_path / "up").write_text("x")
    name = ObjectName("bucket", "key")
    started = time.monotonic()
    attempts: list[Callable[[], object]] = [lambda: store.stat(name), lambda: store.upload(tmp_path / "up", name, {})]
    for attempt in attempts:
        with pytest.raises(UnavailableError, match=f"S3 cannot be reached for {name}"):
            attempt()
    assert time.monotonic() - started < 15


# Deleting


def test_delete_prefix(service: Service, store: ObjectStore, name: ObjectName) -> None:
    """Objects and uploads below the prefix go, others stay. Deleting again does nothing."""
    client, bucket = service.store._client, name.bucket
    inside, beside = name.key.removesuffix("/object"), f"{name.key.removesuffix('/object')}-beside"
    for key in (f"{inside}/a", f"{inside}/b/c", f"{beside}/a"):
        store.write_bytes(ObjectName(bucket, key), b"x")
    for key in (f"{inside}/big", f"{beside}/big"):
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    try:
        assert store.delete_prefix(bucket, f"{inside}/") == 3
        assert store.delete_prefix(bucket, f"{inside}/") == 0
        with pytest.raises(MissingError):
            store.stat(ObjectName(bucket, f"{inside}/a"))
        assert store.stat(ObjectName(bucket, f"{beside}/a")).size == 1
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        assert [item["Key"] for item in uploads if item["Key"].startswith(inside)] == [f"{beside}/big"]
    finally:
        assert store.delete_prefix(bucket, f"{beside}/") == 2


# Addresses


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("s3://ims/recipes/1/recipe.tar.gz", "ims", "recipes/1/recipe.tar.gz"),
        ("s3://my.bucket-1/ä b?#", "my.bucket-1", "ä b?#"),
    ],
)
def test_parse_address(url: str, bucket: str, key: str) -> None:
    """Writing the parsed address gives the same text."""
    assert ObjectName.parse(url) == ObjectName(bucket, key)
    assert str(ObjectName(bucket, key)) == url


@pytest.mark.parametrize(
    "url",
    ["", "s3://", "s3://ims", "s3://ims/", "s3:///key", "http://ims/key", "S3://ims/key", "s3://IMS/key", "s3://a/k"],
)
def test_malformed_address(url: str) -> None:
    """The error quotes the address and names the right form."""
    with pytest.raises(InputError, match="is not the address of an S3 object") as caught:
        ObjectName.parse(url)
    assert repr(url) in caught.value.reason


# The other ports of the embedded S3


def test_s3_requires_a_key(service: Service, name: ObjectName) -> None:
    """Without a key, objects cannot be read and buckets cannot be listed."""
    service.store.write_bytes(name, b"secret data")
    trusted = ssl.create_default_context(cafile=service.settings.ca_certificate_path)
    with httpx.Client(base_url=service.settings.endpoint_url, verify=trusted) as stranger:
        for path in (f"/{name.bucket}", f"/{name.bucket}/{name.key}"):
            assert stranger.get(path).status_code == 403
        buckets = stranger.get("/")
    assert name.bucket not in buckets.text
    if service.settings.s3_endpoint_url is None:  # Ceph answers with an empty list
        assert buckets.status_code == 403
