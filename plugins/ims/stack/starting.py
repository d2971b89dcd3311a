"""How an administrator starts the service on one machine, and where its logs are: for hints of errors and checks."""

from __future__ import annotations

from pathlib import Path

from ims.settings import Settings

FOLDER = Path("/etc/systemd/system")
TARGET = "ims.target"


def uses_systemd() -> bool:
    """Whether `make install` has installed the service here."""
    return (FOLDER / TARGET).exists()


def start_command() -> str:
    """The command that starts the service."""
    return f"systemctl start {TARGET}" if uses_systemd() else "make up"


def restart_command() -> str:
    """The command that stops the service and starts it again."""
    return f"systemctl restart {TARGET}" if uses_systemd() else "make down up"


def see_logs(settings: Settings) -> str:
    """A sentence that says where the processes of the service log."""
    return "See journalctl -u 'ims-*'" if uses_systemd() else f"See the logs in {settings.home}/logs"
