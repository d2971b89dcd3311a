"""Attacks on S3: with the credentials of another job, and on the internal ports of SeaweedFS."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from ims.settings import Settings
from ims.stack.certificates import issue, make_ca
from ims.stack.seaweedfs import EXPECTS_TLS
from ims.storage.objects import ObjectName
from tests.seaweedfs import EmbeddedS3, running

GRPC = 10000
KEPT = ObjectName("boot-images", "11111111-1111-4111-8111-111111111111/rootfs")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    """SeaweedFS with one object."""
    with running(tmp_path_factory.mktemp("seaweedfs")) as s3:
        s3.store.write_bytes(KEPT, b"rootfs")
        yield s3


def stranger(folder: Path) -> ssl.SSLContext:
    """TLS of a client that trusts every server and has a certificate of a CA of its own."""
    context = ssl._create_unverified_context()  # noqa: S323  (an attacker does not care)
    pair = issue(make_ca("eve"), "127.0.0.1")
    for name, text in (("cert", pair.certificate_pem), ("key", pair.key_pem)):
        (folder / name).write_text(text)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


def obeys(url: str, method: str, path: str, context: ssl.SSLContext | bool = True) -> bool:
    """Whether a server answers a request, and not only that it expects TLS."""
    try:
        with httpx.Client(base_url=url, verify=context) as client:
            answer = client.request(method, path)
    except httpx.TransportError:
        return False
    return answer.text != EXPECTS_TLS


# The port after IMS_S3_INTERNAL_PORT, the method and the path.
REQUESTS = {
    "delete all volumes of a bucket": (0, "GET", "/col/delete?collection=boot-images"),
    "get a write token": (0, "GET", "/dir/assign"),
    "look up a write token": (0, "GET", "/dir/lookup?volumeId=1"),
    "upload through the master": (0, "POST", "/submit"),
    "grow volumes": (0, "GET", "/vol/grow?count=100"),
    "read a volume": (1, "GET", "/1,01637037d6"),
    "write to a volume": (1, "PUT", "/1,01637037d6"),
    "delete from a volume": (1, "DELETE", "/1,01637037d6"),
    "see the volumes": (1, "GET", "/status"),
    "read an object from the filer": (2, "GET", f"/buckets/{KEPT.bucket}/{KEPT.key}"),
    "replace an object in the filer": (2, "PUT", f"/buckets/{KEPT.bucket}/{KEPT.key}"),
    "delete a bucket in the filer": (2, "DELETE", "/buckets/boot-images?recursive=true"),
    "read the identities": (2, "GET", "/etc/iam/identity.json"),
    "use the console": (3, "GET", "/"),
}


@pytest.mark.system
@pytest.mark.parametrize("attack", REQUESTS)
def test_http(embedded: EmbeddedS3, tmp_path: Path, attack: str) -> None:
    """The master, the volume server, the filer and the console answer only to their own certificate."""
    own = embedded.settings
    offset, method, path = REQUESTS[attack]
    address = f"{own.host}:{own.s3_internal_port + offset}"
    assert not obeys(f"http://{address}", method, path)
    for context in (ssl._create_unverified_context(), stranger(tmp_path)):  # noqa: S323
        assert not obeys(f"https://{address}", method, path, context)
    assert embedded.store.read_bytes(KEPT, 100) == b"rootfs"


# The component, the port after IMS_S3_INTERNAL_PORT (None: that of S3), and a call without arguments.
CALLS = {
    "delete a collection": (0, "/master_pb.Seaweed/CollectionDelete"),
    "list the volumes": (0, "/master_pb.Seaweed/VolumeList"),
    "delete a volume": (1, "/volume_server_pb.VolumeServer/VolumeDelete"),
    "copy files of a volume": (1, "/volume_server_pb.VolumeServer/CopyFile"),
    "delete an entry": (2, "/filer_pb.SeaweedFiler/DeleteEntry"),
    "read the configuration of the filer": (2, "/filer_pb.SeaweedFiler/GetFilerConfiguration"),
    "create a user": (2, "/iam_pb.SeaweedIdentityAccessManagement/CreateUser"),
    "replace the identities": (None, "/s3_pb.SeaweedS3IamCache/PutIdentity"),
    "read the metadata of the console": (3, "/worker_pb.WorkerService/WorkerStream"),
}


def call(target: str, method: str, credentials: grpc.ChannelCredentials | None) -> bytes:
    """Call a method of gRPC with an empty message; returns the answer. Raises grpc.RpcError."""
    options = [("grpc.enable_retries", 0)]
    channel = (
        grpc.insecure_channel(target, options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options)
    )
    with channel:
        return bytes(channel.unary_unary(method)(b"", timeout=10))


@pytest.mark.system
@pytest.mark.parametrize("attack", CALLS)
def test_grpc(embedded: EmbeddedS3, attack: str) -> None:
    """Without the certificate, and with one of another CA, a call does not even connect."""
    own = embedded.settings
    offset, method = CALLS[attack]
    port = GRPC + (own.s3_port if offset is None else own.s3_internal_port + offset)
    target = f"{own.host}:{port}"
    trusted, eve = _ca(own), issue(make_ca("eve"), "127.0.0.1")
    for credentials in (
        None,
        grpc.ssl_channel_credentials(trusted),
        grpc.ssl_channel_credentials(trusted, eve.key_pem.encode(), eve.certificate_pem.encode()),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(target, method, credentials)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert embedded.store.read_bytes(KEPT, 100) == b"rootfs"


def _ca(own: Settings) -> bytes:
    return (own.secrets / "s3-ca.pem").read_bytes()


@pytest.mark.system
def test_attacks_would_work_with_the_certificate(embedded: EmbeddedS3) -> None:
    """The ports and methods exist: the components themselves use them."""
    own = embedded.settings
    key, certificate = ((own.secrets / f"s3-{name}.pem").read_bytes() for name in ("key", "cert"))
    credentials = grpc.ssl_channel_credentials(_ca(own), key, certificate)
    target = f"{own.host}:{own.s3_internal_port + GRPC}"
    assert call(target, "/master_pb.Seaweed/VolumeList", credentials)
    context = ssl.create_default_context(cadata=_ca(own).decode())
    context.load_cert_chain(own.secrets / "s3-cert.pem", own.secrets / "s3-key.pem")
    assert obeys(f"https://{own.host}:{own.s3_internal_port}", "GET", "/dir/assign", context)


@pytest.mark.system
def test_listeners(embedded: EmbeddedS3) -> None:
    """All ports of SeaweedFS are those that the attacks above try, and all listen on the configured address."""
    own = embedded.settings
    internal = range(own.s3_internal_port, own.s3_internal_port + 4)
    known = {own.s3_port, *internal, *(port + GRPC for port in (own.s3_port, *internal))}
    lines = subprocess.run(["ss", "-Hlntp"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = {line.split()[3] for line in lines if f"pid={embedded.pid}," in line}
    assert found == {f"{own.host}:{port}" for port in known}
