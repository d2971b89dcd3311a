"""The way back to an earlier version of the service."""

from __future__ import annotations

from ims import supervisord
from ims.errors import ConfigurationError, InputError
from ims.records import database
from ims.settings import Settings
from ims.stack import lifecycle

REVISIONS = {"0.1.0": "0005", "0.2.0": "0005", "0.3.0": "0006", "0.4.0": "0010"}
"""The revision of the database of records that each earlier version uses."""


def downgrade(settings: Settings, version: str) -> None:
    """Change the database of records so that an earlier version can use it. What that version does not store is lost.

    Raises InputError if there is no such version, ConfigurationError if the service runs, UnavailableError if the
    database does not answer.
    """
    if version not in REVISIONS:
        raise InputError(f"{version} is not an earlier version", f"Name one of {', '.join(REVISIONS)}")
    if supervisord.is_running(settings):
        raise ConfigurationError("the service runs, so its database cannot be changed", "Stop it, then try again")
    lifecycle.check_ports(settings)
    database.downgrade(settings.records_url, REVISIONS[version])
