"""Where a shell keeps what it needs. Below /run, which is the step's own and empty: it goes with the step."""

from __future__ import annotations

from pathlib import Path

PRIVATE = Path("/run/ims")
ARGUMENTS = PRIVATE / "arguments"
"""bubblewrap's, separated by zeros."""
PROCESSES = PRIVATE / "pidns"
"""The PID namespace that all sessions share."""
FILTER = PRIVATE / "seccomp"
"""The filter of system calls."""
RESOLV_CONF = PRIVATE / "resolv.conf"
SYS = PRIVATE / "sys"
"""/sys of all sessions."""
SHARED_RUN = PRIVATE / "run"
"""/run of all sessions."""

TOOLS = Path("/run/.ims")
"""Where a session finds our tools."""
ENTER = TOOLS / "enter"
"""A session's first program."""
SFTP_SERVER = TOOLS / "bin" / "sftp-server"

IMAGE = Path("/mnt/image")
IMAGE_ROOT = IMAGE / "image-root"
"""The image root in a shell that is not jailed."""
