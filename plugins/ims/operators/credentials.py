"""The S3 credentials of steps: temporary ones, with the rights that the step declares."""

from __future__ import annotations

import json
import os
from typing import Any

from ims.connections import object_store, token_service
from ims.settings import settings
from ims.steps.step import Step


def temporary_credentials(step: Step[Any], data: dict[str, Any]) -> dict[str, str]:
    """Returns variables AWS_* with which a step reads and writes only what it declares, for a limited time.

    Returns nothing if the step uses no S3, or if the settings name no role. Raises ImsError if the input of the step is
    wrong, or S3 issues no credentials.
    """
    role = settings().step_role_arn
    if step.s3 is None or not role:
        return {}
    from ims.storage.sessions import session_credentials  # slow to import

    grants = step.s3(step.read_input(json.dumps(data)), object_store())
    if all(grant.only_reads for grant in grants):
        role = settings().sts_read_role_arn or role
    given = session_credentials(role, step.name, settings().sts_seconds, grants, token_service())
    return {
        "AWS_ENDPOINT_URL": settings().endpoint_url,
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


def service_credentials(step: Step[Any]) -> dict[str, str]:
    """Returns the variables AWS_* of this process for a step that uses S3, and nothing for other steps."""
    return {name: value for name, value in os.environ.items() if step.s3 and name.startswith("AWS_")}
