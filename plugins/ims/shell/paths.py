"""Where a shell keeps its files. All are below /run, which is private to the step and disappears with it."""

from __future__ import annotations

from pathlib import Path

PRIVATE = Path("/run/ims")
ARGUMENTS = PRIVATE / "arguments"
"""bubblewrap's arguments, separated by NUL bytes."""
PROCESSES = PRIVATE / "pidns"
"""The PID namespace that all sessions share."""
NETWORK = PRIVATE / "netns"
"""The network namespace of all sessions."""
FILTER = PRIVATE / "seccomp"
"""The seccomp filter of all sessions."""
RESOLV_CONF = PRIVATE / "resolv.conf"
SYS = PRIVATE / "sys"
"""The /sys of all sessions."""
SHARED_RUN = PRIVATE / "run"
"""The /run of all sessions."""

TOOLS = Path("/run/.ims")
"""Where a session finds our programs."""
ENTER = TOOLS / "enter"
"""The first program of a session."""
SFTP_SERVER = TOOLS / "bin" / "sftp-server"

IMAGE = Path("/mnt/image")
IMAGE_ROOT = IMAGE / "image-root"
"""The image root in a shell that is not jailed."""
