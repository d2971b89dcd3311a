"""Temporary credentials for S3, from the store's own security token service."""

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
    """Credentials with the rights of `role`, of them only `actions` in `buckets`: {AccessKeyId, SecretAccessKey,
    SessionToken, Expiration}.

    Raises UnavailableError, ConfigurationError: the store gives none.
    """
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    client = boto3.client(
        "sts",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}),
    )
    # Without spaces: a Ceph RADOS Gateway takes those of a form for plus signs.
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
    """What is allowed, as S3 reads it: the actions in the buckets and their objects, and the list of buckets."""
    resources = [f"arn:aws:s3:::{bucket}{below}" for bucket in buckets for below in ("", "/*")]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:ListAllMyBuckets"], "Resource": ["*"]},
            {"Effect": "Allow", "Action": list(actions), "Resource": resources},
        ],
    }


def session_name(user: str) -> str:
    """A user's name in the characters that a session's may have."""
    return re.sub(r"[^A-Za-z0-9_=,.@-]", "-", f"ims-{user}")[:64]
