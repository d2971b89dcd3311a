"""S3, for what a command itself stores and fetches."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ims.client import ImsClient
    from ims.storage.objects import ObjectStore


_OWN = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def store(client: ImsClient) -> ObjectStore:
    """The store that the AWS_* variables name, else that of the service, with credentials that it gives the user.

    Raises ImsError: it gives none.
    """
    from ims.storage.objects import ObjectStore  # costs half a second

    if all(name in os.environ for name in _OWN):
        return ObjectStore.from_environment(attempts=5)
    given = client.send("PUT", "/apis/sts/token").json()["Credentials"]
    secrets = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    return ObjectStore.connect(given["EndpointURL"], *secrets, attempts=5)
