"""Where a shell keeps its files. All are below /run, which is private to the step and disappears with it."""

from __future__ import annotations

from pathlib import Path

PRIVATE = Path("/run/ims")
BOX = PRIVATE / "box"
"""What a program needs to enter the sandbox of all sessions."""
RESOLV_CONF = PRIVATE / "resolv.conf"
INSTALLED_TOOLS = PRIVATE / "tools"
"""What sessions see as TOOLS."""
LOG = PRIVATE / "kiwi.log"
"""A copy of the log of a failed build. Sessions see it in /run."""

TOOLS = Path("/run/.ims")
"""Where a session finds our programs."""
ENTER = TOOLS / "enter"
"""The first program of a session."""
NOTICE = TOOLS / "notice"
"""A text that an interactive login prints."""
SFTP_SERVER = TOOLS / "bin" / "sftp-server"

IMAGE = Path("/mnt/image")
IMAGE_ROOT = IMAGE / "image-root"
"""The image root in a shell that is not jailed."""
