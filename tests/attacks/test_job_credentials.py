"""Attacks on S3 with the credentials of a step: they reach the objects of its job, and nothing else.

They run on the embedded S3, and on Ceph if IMS_TEST_S3 is `ceph`.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ims.doctor.s3 import altered
from ims.errors import MissingError
from ims.operators import credentials
from ims.runtime.local.process import StepProcess
from ims.settings import settings
from ims.stack.credentials import Credentials
from ims.stack.environment import s3_connection
from ims.steps.step import load_step
from ims.storage.digests import digest
from ims.storage.manifest import ROOTFS, Artifact, Link, write_manifest
from ims.storage.objects import ObjectName, ObjectStore
from tests.ceph import CephGateway
from tests.seaweedfs import running

OURS, THEIRS, OLD = str(uuid4()), str(uuid4()), str(uuid4())
OUR_RECIPE = ObjectName("ims", "recipes/ours.tar.gz")
PART = b"x" * 5 * 1024 * 1024


@dataclass(frozen=True)
class Login:
    """The address of a store and the keys of the service."""

    url: str
    access_key: str
    secret_key: str

    @property
    def credentials(self) -> dict[str, str]:
        """The keys under their names in the credentials of an installation."""
        return {"s3_access_key": self.access_key, "s3_secret_key": self.secret_key}

    def client(self, name: str, token: str | None = None) -> Any:
        """A client of boto3, which has no checks of ours."""
        clients: Any = boto3
        return clients.client(
            name,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            aws_session_token=token,
            endpoint_url=self.url,
            region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required", retries={"total_max_attempts": 1}),
        )


@pytest.fixture(scope="module")
def login(gateway: CephGateway | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """A store that issues temporary credentials; only S3 runs, and nothing else of the stack."""
    if gateway is not None:
        yield Login(gateway.url, gateway.access_key, gateway.secret_key)
        return
    with running(tmp_path_factory.mktemp("seaweedfs")) as s3:
        yield Login(s3.settings.endpoint_url, s3.credentials.s3_access_key, s3.credentials.s3_secret_key)


@pytest.fixture(autouse=True)
def store(login: Login, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The store with the rights of the service: it has a recipe, and an image of another job."""
    if settings().s3_endpoint_url is None:
        configure(s3_port=login.url.rpartition(":")[2])
    service = ObjectStore.connect(login.url, login.access_key, login.secret_key)
    for key in ("rootfs", "kernel"):
        service.write_bytes(ObjectName("boot-images", f"{THEIRS}/{key}"), b"theirs")
    service.write_bytes(ObjectName("boot-images", f"{OURS}/source"), b"evil")
    service.write_bytes(ObjectName("ims", "recipes/ours.tar.gz"), b"ours")
    service.write_bytes(ObjectName("ims", "recipes/theirs.tar.gz"), b"theirs")
    for name, value in (("AWS_ACCESS_KEY_ID", login.access_key), ("AWS_SECRET_ACCESS_KEY", login.secret_key)):
        monkeypatch.setenv(name, value)
    connection = s3_connection(settings(), Credentials.generate().model_copy(update=login.credentials))
    monkeypatch.setenv("AIRFLOW_CONN_IMS_S3", json.dumps(connection))
    return service


def client_of(step: str, **fields: Any) -> Any:
    """A client of S3 with the credentials that a step gets for its input."""
    given = credentials.temporary_credentials(load_step(step), {"workspace": "/work", **fields})
    keys = Login(given["AWS_ENDPOINT_URL"], given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
    return keys.client("s3", given["AWS_SESSION_TOKEN"])


def uploader() -> Any:
    """A client with the credentials of the step that uploads our image."""
    return client_of("upload_artifacts", image_id=OURS, image_name="ours", job_id="1", each={"artifacts": []})


def refused(call: Callable[[], Any]) -> bool:
    """Whether the store refuses a call because of missing rights."""
    try:
        call()
    except ClientError as error:
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 403)
    return False


def their(key: str = "rootfs") -> dict[str, str]:
    """An object of the other image, as boto3 names it."""
    return {"Bucket": "boot-images", "Key": f"{THEIRS}/{key}"}


def test_uploader_can_do_its_work() -> None:
    """It uploads in one piece and in parts, and reads back what it wrote."""
    s3, ours = uploader(), {"Bucket": "boot-images", "Key": f"{OURS}/rootfs"}
    s3.put_object(**ours, Body=b"ours", Metadata={"sha256": "1"})
    assert s3.get_object(**ours)["Body"].read() == b"ours"
    upload = s3.create_multipart_upload(**ours)["UploadId"]
    part = s3.upload_part(**ours, UploadId=upload, PartNumber=1, Body=PART)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**ours, UploadId=upload, MultipartUpload=parts)
    assert s3.head_object(**ours)["ContentLength"] == len(PART)


@pytest.mark.system
def test_upload(store: ObjectStore, configure: Callable[..., None], tmp_path: Path) -> None:
    """The step itself works with its credentials, which reach it in its environment."""
    configure(home=tmp_path)
    workspace, digests = tmp_path / "workspaces" / "1", digest(iter([PART]))
    (workspace / "run").mkdir(parents=True)
    rootfs = workspace / "rootfs"
    rootfs.write_bytes(PART)
    artifact = {"name": "rootfs", "type": ROOTFS, "path": str(rootfs), "size": len(PART)}
    batch = {"artifacts": [{**artifact, "md5": digests.md5, "sha256": digests.sha256}]}
    data = {"workspace": str(workspace), "image_id": OURS, "image_name": "ours", "job_id": "1", "each": batch}
    step = load_step("upload_artifacts")
    given = credentials.temporary_credentials(step, data)
    result = StepProcess().run(step, data, "upload", print, given)
    assert result["artifacts"][0]["path"] == f"s3://boot-images/{OURS}/rootfs"
    assert store.stat(ObjectName("boot-images", f"{OURS}/rootfs")).metadata["sha256"] == digests.sha256


@pytest.mark.system
def test_upload_that_continues_an_object(store: ObjectStore, configure: Callable[..., None], tmp_path: Path) -> None:
    """The credentials of the step let S3 copy from the old rootfs. They can only read it, and no other object."""
    configure(home=tmp_path)
    workspace, old, new = tmp_path / "workspaces" / "1", PART * 3, b"head" + b"tail"
    (workspace / "run").mkdir(parents=True)
    (workspace / "rootfs").write_bytes(new)
    store.write_bytes(ObjectName("boot-images", f"{OLD}/rootfs"), old)
    store.write_bytes(ObjectName("boot-images", f"{OLD}/kernel"), b"theirs")
    kept = len(PART) * 2 + 1
    digests = digest(iter([b"head", old[4:kept], b"tail"]))
    base = {"url": f"s3://boot-images/{OLD}/rootfs", "path": "/nowhere", "kept": kept, "head": 4}
    artifact = {"name": "rootfs", "type": ROOTFS, "path": str(workspace / "rootfs"), "base": base}
    batch = {"artifacts": [{**artifact, "size": digests.size, "md5": digests.md5, "sha256": digests.sha256}]}
    data = {"workspace": str(workspace), "image_id": OURS, "image_name": "ours", "job_id": "1", "each": batch}
    step = load_step("upload_artifacts")
    given = credentials.temporary_credentials(step, data)
    result = StepProcess().run(step, data, "upload", print, given)
    stored = store.stat(ObjectName("boot-images", f"{OURS}/rootfs"))
    assert (stored.size, stored.metadata["sha256"]) == (digests.size, digests.sha256)
    assert result["artifacts"][0]["etag"] == stored.etag
    s3 = client_of(step.name, **{name: value for name, value in data.items() if name != "workspace"})
    assert s3.head_object(Bucket="boot-images", Key=f"{OLD}/rootfs")["ContentLength"] == len(old)
    assert refused(lambda: s3.put_object(Bucket="boot-images", Key=f"{OLD}/rootfs", Body=b"evil"))
    assert refused(lambda: s3.get_object(Bucket="boot-images", Key=f"{OLD}/kernel"))
    assert refused(lambda: s3.get_object(**their()))


def copy_part(s3: Any) -> Any:
    """Read another image by copying it into a part of our own upload."""
    ours = {"Bucket": "boot-images", "Key": f"{OURS}/stolen"}
    upload = s3.create_multipart_upload(**ours)["UploadId"]
    return s3.upload_part_copy(**ours, UploadId=upload, PartNumber=1, CopySource=their())


ATTACKS: dict[str, Callable[[Any], Any]] = {
    "read": lambda s3: s3.get_object(**their()),
    "read the metadata": lambda s3: s3.head_object(**their()),
    "overwrite": lambda s3: s3.put_object(**their(), Body=b"evil"),
    "overwrite in parts": lambda s3: s3.create_multipart_upload(**their()),
    "overwrite by a copy": lambda s3: s3.copy_object(
        **their(), CopySource={"Bucket": "boot-images", "Key": f"{OURS}/source"}
    ),
    "read by a copy": lambda s3: s3.copy_object(Bucket="boot-images", Key=f"{OURS}/stolen", CopySource=their()),
    "read by copying a part": copy_part,
    "delete": lambda s3: s3.delete_object(**their()),
    "change the access": lambda s3: s3.put_object_acl(**their(), ACL="public-read"),
    "add a manifest": lambda s3: s3.put_object(**their("manifest.yaml"), Body=b"{}"),
    "write beside the prefix": lambda s3: s3.put_object(Bucket="boot-images", Key=f"{OURS}-evil/rootfs", Body=b"evil"),
    "list images": lambda s3: s3.list_objects_v2(Bucket="boot-images"),
    "list uploads": lambda s3: s3.list_multipart_uploads(Bucket="boot-images"),
    "read a recipe": lambda s3: s3.get_object(Bucket="ims", Key="recipes/ours.tar.gz"),
    "replace a recipe": lambda s3: s3.put_object(Bucket="ims", Key="recipes/ours.tar.gz", Body=b"evil"),
    "make the bucket public": lambda s3: s3.put_bucket_policy(
        Bucket="boot-images",
        Policy=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": "*",
                        "Action": "s3:*",
                        "Resource": "arn:aws:s3:::boot-images/*",
                    }
                ],
            }
        ),
    ),
    "delete the bucket": lambda s3: s3.delete_bucket(Bucket="boot-images"),
    "let objects expire": lambda s3: s3.put_bucket_lifecycle_configuration(
        Bucket="boot-images",
        LifecycleConfiguration={
            "Rules": [{"ID": "x", "Filter": {"Prefix": ""}, "Status": "Enabled", "Expiration": {"Days": 1}}]
        },
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_uploader(store: ObjectStore, attack: str) -> None:
    """The credentials of the job that makes one image cannot touch another image, a recipe or a bucket."""
    assert refused(lambda: ATTACKS[attack](uploader()))
    for key in ("rootfs", "kernel"):
        assert store.read_bytes(ObjectName("boot-images", f"{THEIRS}/{key}"), 100) == b"theirs"
    assert store.read_bytes(ObjectName("ims", "recipes/ours.tar.gz"), 100) == b"ours"


def test_delete_many(store: ObjectStore) -> None:
    """The store refuses the request, or names a reason for each object that stays."""
    objects = {"Objects": [{"Key": their()["Key"]}]}
    with suppress(ClientError):
        answer = uploader().delete_objects(Bucket="boot-images", Delete=objects)
        assert [item["Code"] for item in answer["Errors"]] == ["AccessDenied"]
    assert store.read_bytes(ObjectName("boot-images", their()["Key"]), 100) == b"theirs"


@pytest.mark.parametrize(
    "key",
    [f"{OURS}/../{THEIRS}/rootfs", f"{OURS}/%2e%2e/{THEIRS}/rootfs", f"{OURS}//rootfs"],
    ids=("dots", "quoted dots", "empty name"),
)
def test_climb_out_of_the_prefix(store: ObjectStore, key: str) -> None:
    """A key is no path: it is refused, or it is another object."""
    with suppress(ClientError):
        uploader().put_object(Bucket="boot-images", Key=key, Body=b"evil")
    assert store.read_bytes(ObjectName("boot-images", their()["Key"]), 100) == b"theirs"


def test_fetched_recipe() -> None:
    """The step reads its archive, no other one, and writes nothing."""
    s3 = client_of("fetch_recipe", recipe_id="1", path="s3://ims/recipes/ours.tar.gz")
    assert s3.get_object(Bucket="ims", Key="recipes/ours.tar.gz")["Body"].read() == b"ours"
    assert refused(lambda: s3.get_object(Bucket="ims", Key="recipes/theirs.tar.gz"))
    assert refused(lambda: s3.put_object(Bucket="ims", Key="recipes/ours.tar.gz", Body=b"evil"))
    assert refused(lambda: s3.get_object(**their()))


@pytest.mark.parametrize("key", ["recipes/*", "*", "recipes/????.tar.gz", "recipes/${aws:username}"])
def test_wildcards(store: ObjectStore, key: str) -> None:
    """A recipe whose key is a pattern does not open the objects that match it."""
    store.write_bytes(ObjectName("ims", key), b"x")
    with pytest.raises(Exception, match="patterns"):
        client_of("fetch_recipe", recipe_id="1", path=f"s3://ims/{key}")
    store.delete(ObjectName("ims", key))


def test_fetched_image(store: ObjectStore) -> None:
    """The step reads the manifest and the rootfs that it names, and nothing else of the image."""
    manifest = ObjectName("boot-images", f"{THEIRS}/manifest.yaml")
    rootfs = Artifact(type=ROOTFS, link=Link(path=f"s3://boot-images/{THEIRS}/rootfs"))
    store.write_bytes(manifest, write_manifest([rootfs]).encode())
    s3 = client_of("fetch_image", path=str(manifest))
    assert s3.get_object(**their())["Body"].read() == b"theirs"
    assert s3.get_object(**their("manifest.yaml"))["Body"].read()
    assert refused(lambda: s3.get_object(**their("kernel")))
    assert refused(lambda: s3.put_object(**their(), Body=b"evil"))


def test_plan() -> None:
    """The step that plans reads everything and writes nothing."""
    s3 = client_of("plan_images", recipes=[])
    assert s3.get_object(**their())["Body"].read() == b"theirs"
    assert refused(lambda: s3.put_object(**their(), Body=b"evil"))
    assert refused(lambda: s3.delete_object(**their()))


def test_more_rights() -> None:
    """The credentials cannot be exchanged for others."""
    fields = {"image_id": OURS, "image_name": "ours", "job_id": "1", "each": {"artifacts": []}, "workspace": "/work"}
    given = credentials.temporary_credentials(load_step("upload_artifacts"), fields)
    keys = Login(given["AWS_ENDPOINT_URL"], given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
    tokens = keys.client("sts", given["AWS_SESSION_TOKEN"])
    role = settings().step_role_arn
    with pytest.raises(ClientError):
        tokens.assume_role(RoleArn=role, RoleSessionName="eve")
    with pytest.raises(ClientError):
        keys.client("s3").get_object(Bucket="boot-images", Key=f"{OURS}/rootfs")


@pytest.mark.parametrize(
    "change",
    [
        lambda given: {**given, "AWS_SESSION_TOKEN": None},
        lambda given: {**given, "AWS_SECRET_ACCESS_KEY": "0" * 40},
        lambda given: {**given, "AWS_ACCESS_KEY_ID": "AKIA0000000000000000"},
    ],
    ids=["no token", "wrong secret", "unknown key"],
)
def test_forged(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Credentials that were changed are worth nothing, not even for the prefix of the job."""
    fields = {"image_id": OURS, "image_name": "ours", "job_id": "1", "each": {"artifacts": []}, "workspace": "/work"}
    given = change(credentials.temporary_credentials(load_step("upload_artifacts"), fields))
    keys = Login(given["AWS_ENDPOINT_URL"], given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
    s3 = keys.client("s3", given["AWS_SESSION_TOKEN"])
    with pytest.raises(ClientError):
        s3.get_object(Bucket="boot-images", Key=f"{OURS}/source")
    with pytest.raises(ClientError):
        s3.put_object(Bucket="boot-images", Key=f"{OURS}/rootfs", Body=b"evil")


def test_altered_tokens(store: ObjectStore) -> None:
    """Altering a token gives no right to write: Ceph may drop the limits of the session, but not those of the role."""
    given = credentials.temporary_credentials(
        load_step("fetch_recipe"), {"workspace": "/work", "recipe_id": "1", "path": str(OUR_RECIPE)}
    )
    keys = Login(given["AWS_ENDPOINT_URL"], given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
    token = given["AWS_SESSION_TOKEN"]
    for place in range(0, len(token), 10):
        s3 = keys.client("s3", altered(token, place))
        with pytest.raises(ClientError):
            s3.put_object(**their(), Body=b"evil")
        with pytest.raises(ClientError):
            s3.put_object(Bucket="ims", Key=OUR_RECIPE.key, Body=b"evil")
    assert store.read_bytes(ObjectName("boot-images", their()["Key"]), 100) == b"theirs"


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "?list-type=2"), ("PUT", "/x"), ("DELETE", "/x")])
def test_anonymous(login: Login, store: ObjectStore, method: str, path: str) -> None:
    """Without credentials, S3 answers nothing."""
    trusted = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
    answer = httpx.request(method, f"{login.url}/boot-images{path}", verify=trusted)
    assert answer.status_code == 403
    assert store.read_bytes(ObjectName("boot-images", f"{THEIRS}/rootfs"), 100) == b"theirs"


def test_missing_object_is_named() -> None:
    """S3 answers 403 to a step for an object that does not exist, so the service looks before."""
    with pytest.raises(MissingError, match="s3://ims/recipes/none"):
        client_of("fetch_recipe", recipe_id="1", path="s3://ims/recipes/none.tar.gz")


def test_steps_without_s3_get_nothing(tmp_path: Path) -> None:
    """Those that run untrusted code have no credentials at all."""
    for name in ("build_image", "run_script", "package_artifacts", "serve_shell", "resolve_packages"):
        assert load_step(name).s3 is None, name
        assert credentials.temporary_credentials(load_step(name), {}) == {}
