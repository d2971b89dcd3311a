"""The roles of the embedded S3 for which temporary credentials are issued."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from ims.files import write_private
from ims.settings import EMBEDDED_READ_ROLE, EMBEDDED_ROLE, Settings
from ims.stack.credentials import Credentials
from ims.storage.sessions import DELETE, LIST_BUCKETS, READ, WRITE, of_buckets, policy

ISSUER = "ims"
ROLES = {EMBEDDED_ROLE: (*READ, *WRITE, *DELETE), EMBEDDED_READ_ROLE: READ}
"""What each role may do in the two buckets."""


def roles_file(settings: Settings) -> Path:
    """The file from which SeaweedFS reads the roles."""
    return settings.home / "s3" / "iam.json"


def write_roles(settings: Settings, credentials: Credentials) -> None:
    """Write the roles: they grant access to the two buckets, and only the service may assume them.

    If every user could assume them, a user with read-only credentials could request credentials that may write.
    """
    service = f"arn:aws:iam::000000000000:user/admin-{credentials.s3_access_key[:8]}"  # SeaweedFS names it so
    trusted = {"Effect": "Allow", "Principal": {"AWS": service}, "Action": ["sts:AssumeRole"]}
    key = hashlib.sha256(f"sts {credentials.filer_key}".encode()).digest()
    configuration = {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": ISSUER,
            "signingKey": base64.b64encode(key).decode(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [
            {"name": _name(role), "document": policy((LIST_BUCKETS, of_buckets(settings.buckets, actions)))}
            for role, actions in ROLES.items()
        ],
        "roles": [
            {
                "roleName": _name(role),
                "roleArn": role,
                "attachedPolicies": [_name(role)],
                "trustPolicy": {"Version": "2012-10-17", "Statement": [trusted]},
            }
            for role in ROLES
        ],
    }
    write_private(roles_file(settings), json.dumps(configuration, indent=2))


def _name(role: str) -> str:
    return role.rpartition("/")[2]
