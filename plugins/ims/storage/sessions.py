"""Temporary credentials for S3, from the security token service of the store."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any

import boto3
from botocore.config import Config

from ims.storage.errors import storage_errors

READ = ("s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation")
WRITE = (
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:AbortMultipartUpload",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
)
DELETE = ("s3:DeleteObject",)


def session_credentials(
    role: str, user: str, seconds: int, buckets: Sequence[str], actions: Sequence[str]
) -> dict[str, Any]:
    """Returns {AccessKeyId, SecretAccessKey, SessionToken, Expiration} for some of the permissions of `role`.

    The credentials allow only `actions` in `buckets`. Raises UnavailableError or ConfigurationError if the store
    issues none.
    """
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    client = boto3.client(
        "sts",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}),
    )
    # The policy must not contain spaces: a Ceph RADOS Gateway decodes them as plus signs.
    allowed = json.dumps(policy(buckets, actions), separators=(",", ":"))
    with storage_errors(f"{role} at {endpoint}"):
        answer = client.assume_role(
            RoleArn=role,
            RoleSessionName=session_name(user),
            DurationSeconds=seconds,
            Policy=allowed,
        )
    return dict(answer["Credentials"])


def policy(buckets: Sequence[str], actions: Sequence[str]) -> dict[str, Any]:
    """An S3 policy that allows the actions in the buckets and on their objects, and listing all buckets."""
    resources = [f"arn:aws:s3:::{bucket}{below}" for bucket in buckets for below in ("", "/*")]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:ListAllMyBuckets"], "Resource": ["*"]},
            {"Effect": "Allow", "Action": list(actions), "Resource": resources},
        ],
    }


def session_name(user: str) -> str:
    """A session name for the user, with only the characters that S3 allows."""
    return re.sub(r"[^A-Za-z0-9_=,.@-]", "-", f"ims-{user}")[:64]
