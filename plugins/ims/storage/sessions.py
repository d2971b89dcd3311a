"""Temporary credentials for S3, from the security token service of the store."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ims.errors import InputError
from ims.storage.errors import storage_errors
from ims.storage.objects import ObjectName

if TYPE_CHECKING:
    from botocore.config import Config

READ = ("s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation")
WRITE = (
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:AbortMultipartUpload",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
)
DELETE = ("s3:DeleteObject",)
_UPLOAD = ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
_PATTERN = re.compile(r"[*?]|\$\{")


@dataclass(frozen=True)
class Grant:
    """Actions that credentials allow. A resource is `bucket`, `bucket/key`, or a pattern with `*`."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]

    @property
    def statement(self) -> dict[str, Any]:
        """The grant as a statement of an S3 policy."""
        resources = [f"arn:aws:s3:::{resource}" if resource != "*" else resource for resource in self.resources]
        return {"Effect": "Allow", "Action": list(self.actions), "Resource": resources}

    @property
    def only_reads(self) -> bool:
        """Whether the actions change nothing."""
        return set(self.actions) <= {*READ, *LIST_BUCKETS.actions}


LIST_BUCKETS = Grant(("s3:ListAllMyBuckets",), ("*",))


def of_buckets(buckets: Sequence[str], actions: Sequence[str]) -> Grant:
    """Allows the actions on buckets and on all their objects."""
    return Grant(tuple(actions), tuple(f"{bucket}{below}" for bucket in buckets for below in ("", "/*")))


def reading(names: Iterable[ObjectName]) -> Grant:
    """Allows reading these objects. Raises InputError if the policy would also cover others."""
    return Grant(("s3:GetObject",), tuple(_exactly(f"{name.bucket}/{name.key}") for name in names))


def writing(bucket: str, prefix: str) -> Grant:
    """Allows uploading objects below a prefix and reading them back. Raises InputError like `reading`."""
    return Grant(_UPLOAD, (_exactly(f"{bucket}/{prefix}/") + "*",))


def _exactly(resource: str) -> str:
    if _PATTERN.search(resource):
        raise InputError(
            f"s3://{resource} cannot be used: policies of S3 read *, ? and ${{ as patterns",
            "Copy the object to a key without them",
        )
    return resource


def session_credentials(
    role: str, user: str, seconds: int, grants: Sequence[Grant], client: Any = None
) -> dict[str, Any]:
    """Returns {AccessKeyId, SecretAccessKey, SessionToken, Expiration} for some of the permissions of `role`.

    The credentials allow only what is granted. `client` is a client of the token service; by default, that of the store
    in the variables AWS_*. Raises UnavailableError or ConfigurationError if the store issues none.
    """
    # The policy must not contain spaces: a Ceph RADOS Gateway decodes them as plus signs.
    allowed = json.dumps(policy(grants), separators=(",", ":"))
    with storage_errors(f"temporary credentials of {role}"):
        answer = (client or token_client(os.environ["AWS_ENDPOINT_URL"])).assume_role(
            RoleArn=role,
            RoleSessionName=session_name(user),
            DurationSeconds=seconds,
            Policy=allowed,
        )
    return dict(answer["Credentials"])


def token_client(endpoint_url: str, access_key: str | None = None, secret_key: str | None = None) -> Any:
    """A client of the token service of a store. Without keys, it uses those in the variables AWS_*."""
    import boto3

    return boto3.client(
        "sts",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=token_config(attempts=3),
    )


def token_config(*, attempts: int = 12) -> Config:
    """The configuration of a client of the token service. Twelve attempts outlast an outage of about a minute."""
    from botocore.config import Config

    return Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": attempts})


def policy(grants: Iterable[Grant]) -> dict[str, Any]:
    """The grants as an S3 policy."""
    return {"Version": "2012-10-17", "Statement": [grant.statement for grant in grants]}


def session_name(user: str) -> str:
    """A session name for the user, with only the characters that S3 allows."""
    return re.sub(r"[^A-Za-z0-9_=,.@-]", "-", f"ims-{user}")[:64]
