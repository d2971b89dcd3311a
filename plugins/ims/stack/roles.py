"""The role of the embedded S3 whose temporary credentials `PUT /apis/sts/token` gives out."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from ims.files import write_private
from ims.settings import EMBEDDED_ROLE, Settings
from ims.stack.credentials import Credentials
from ims.storage.sessions import DELETE, READ, WRITE, policy

NAME = EMBEDDED_ROLE.rpartition("/")[2]


def roles_file(settings: Settings) -> Path:
    """Where SeaweedFS reads the role."""
    return settings.home / "s3" / "iam.json"


def write_roles(settings: Settings, credentials: Credentials) -> None:
    """Write the role: it may work in the two buckets, and only the service itself may give it on.

    Were anybody trusted, who has credentials for reading could ask for others without that limit.
    """
    service = f"arn:aws:iam::000000000000:user/admin-{credentials.s3_access_key[:8]}"  # as SeaweedFS names it
    trusted = {"Effect": "Allow", "Principal": {"AWS": service}, "Action": ["sts:AssumeRole"]}
    buckets = (settings.recipes_bucket, settings.images_bucket)
    key = hashlib.sha256(f"sts {credentials.filer_key}".encode()).digest()
    configuration = {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": NAME,
            "signingKey": base64.b64encode(key).decode(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": NAME, "document": policy(buckets, (*READ, *WRITE, *DELETE))}],
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
