"""S3, for commands that upload or download objects themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ims.client import ImsClient
    from ims.storage.objects import ObjectStore


_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def store(client: ImsClient) -> ObjectStore:
    """Return the store in the AWS_* variables, or else the service's store with temporary credentials.

    Raises ImsError if the service issues no credentials.
    """
    from ims.storage.objects import ObjectStore  # takes half a second

    if all(name in os.environ for name in _VARIABLES):
        return ObjectStore.from_environment(attempts=5)
    issued = client.send("PUT", "/apis/sts/token").json()["Credentials"]
    secrets = (issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"])
    return ObjectStore.connect(issued["EndpointURL"], *secrets, attempts=5)
