"""S3, for what a command itself stores and fetches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ims.errors import ConfigurationError

if TYPE_CHECKING:
    from ims.storage.objects import ObjectStore


def store() -> ObjectStore:
    """The store that the AWS_* variables name. Raises ConfigurationError: one is not set."""
    from ims.storage.objects import ObjectStore  # costs half a second

    try:
        return ObjectStore.from_environment(attempts=5)
    except KeyError as error:
        raise ConfigurationError(f"{error.args[0]} is not set", 'Ready the shell with: eval "$(make -s env)"') from None
