"""Scripts that run in a box, as the host's root would see them run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pydantic import BaseModel

from ims.sandbox import box
from ims.sandbox.image_programs import run_in_image
from ims.sandbox.view import View

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def run_in_box(folder: Path, script: str, seconds: float = 60) -> tuple[int, str]:
    """Run a shell script in a box that sees `folder`; returns its exit code and its output."""
    command = ["bash", "-c", script]
    view = View(writable=(folder,))
    done = subprocess.run(
        box.command(view, command),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout


class ImageScript(BaseModel):
    """A program of an image root, which is killed after `seconds`."""

    root: Path
    program: str
    seconds: float


class Ended(BaseModel):
    """How a program ended: its exit code and its output."""

    code: int
    output: str


def run_image_script(script: ImageScript) -> Ended:
    """Run the program; in the sandbox."""
    code, lines = run_in_image(script.root, [script.program], ENVIRONMENT, script.seconds)
    return Ended(code=code, output="\n".join(lines))
