"""The role of the embedded S3 for which `PUT /apis/sts/token` issues temporary credentials."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from ims.files import write_private
from ims.settings import EMBEDDED_ROLE, Settings
from ims.stack.credentials import Credentials
from ims.storage.sessions import DELETE, LIST_BUCKETS, READ, WRITE, of_buckets, policy

NAME = EMBEDDED_ROLE.rpartition("/")[2]


def roles_file(settings: Settings) -> Path:
    """The file from which SeaweedFS reads the role."""
    return settings.home / "s3" / "iam.json"


def write_roles(settings: Settings, credentials: Credentials) -> None:
    """Write the role: it grants access to the two buckets, and only the service may assume it.

    If every user could assume it, a user with read-only credentials could request credentials that may write.
    """
    service = f"arn:aws:iam::000000000000:user/admin-{credentials.s3_access_key[:8]}"  # SeaweedFS names it so
    trusted = {"Effect": "Allow", "Principal": {"AWS": service}, "Action": ["sts:AssumeRole"]}
    buckets = settings.buckets
    key = hashlib.sha256(f"sts {credentials.filer_key}".encode()).digest()
    configuration = {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": NAME,
            "signingKey": base64.b64encode(key).decode(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": NAME, "document": policy((LIST_BUCKETS, of_buckets(buckets, (*READ, *WRITE, *DELETE))))}],
        "roles": [
            {
                "roleName": NAME,
                "roleArn": EMBEDDED_ROLE,
                "attachedPolicies": [NAME],
                "trustPolicy": {"Version": "2012-10-17", "Statement": [trusted]},
            }
        ],
    }
    write_private(roles_file(settings), json.dumps(configuration, indent=2))
