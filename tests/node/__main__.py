"""The commands of the node: see `tests.node`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ims.cache import try_lock
from tests.node import ADDRESS, CACHE, PROGRAMS, STATE, UNAVAILABLE, NodeUnavailableError
from tests.node.images import STEPS, build_images, write_archives
from tests.node.mirror import Mirror
from tests.node.programs import build

START_SECONDS = 180
# The kernel ends the node with this process, even if the process is killed.
NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--cgroup", "--net", "--uts", "--ipc", "--propagation", "private"),
    *("--fork", "--kill-child", "--pid", "--mount-proc"),
)


def main(arguments: Sequence[str]) -> int:
    """Build what a node needs, or run a command in a node of its own (`run`) or in the one that is up (`exec`).

    Returns the exit code of the command, or UNAVAILABLE if this machine cannot have a node.
    """
    try:
        return _perform(arguments)
    except NodeUnavailableError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE


def _perform(arguments: Sequence[str]) -> int:
    match arguments:
        case ["build"]:
            build()
            build_images()
            return 0
        case ["run", _, *_]:
            build()
            with node() as pid:
                return enter(pid, arguments[1:])
        case ["exec", _, *_]:
            return enter(int((STATE / "pid").read_text()), arguments[1:])
    print("usage: python -m tests.node build | run COMMAND… | exec COMMAND…", file=sys.stderr)
    return 64


@contextmanager
def node() -> Iterator[int]:
    """Start a node, and stop it at the end. Gives the process id of its first process.

    Raises NodeUnavailableError if the kernel lacks what a node needs, RuntimeError if the node does not start.
    """
    lock = CACHE / "node.lock"
    with try_lock(lock) as ours:
        if not ours:
            raise RuntimeError(f"another test run has a node: it holds {lock}")
        yield from _started()


def _started() -> Iterator[int]:
    """The files of a node stay for inspection until the next one starts."""
    shutil.rmtree(STATE, ignore_errors=True)
    (STATE / "images").mkdir(parents=True)
    write_archives(STATE / "images")
    print("starting a node", flush=True)
    _check_namespaces()
    with (STATE / "inside.log").open("wb") as log:
        process = subprocess.Popen([*NAMESPACES, sys.executable, "-m", "tests.node.inside"], stdout=log, stderr=log)
    try:
        pid = _await(process)
        threading.Thread(target=Mirror(pid).serve_forever, daemon=True).start()
        yield pid
    finally:
        _end(process)


def _check_namespaces() -> None:
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NodeUnavailableError(f"namespaces cannot be created: {done.stderr}")


def _await(process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_SECONDS
    while not (STATE / "ready").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            error = NodeUnavailableError if process.returncode == UNAVAILABLE else RuntimeError
            raise error(f"the node does not start: {(STATE / 'inside.log').read_text()[-4000:]}")
        time.sleep(0.5)
    pid = _first(process)
    (STATE / "pid").write_text(str(pid))
    return pid


def _first(process: subprocess.Popen[bytes]) -> int:
    """The first process of the node, a child of `unshare`."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def enter(pid: int, command: Sequence[str]) -> int:
    """Run a command in a node; returns its exit code."""
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "KUBECONFIG": str(STATE / "admin.conf"),
        "IMS_HOST": ADDRESS,
        "IMS_KUBERNETES_IMAGE": STEPS,
    }
    enters = ("nsenter", f"--target={pid}", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--pid", "--wd=.", "--")
    return subprocess.run([*enters, *command], env=environment, check=False).returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        subprocess.run(["kill", "-TERM", str(_first(process))], check=False)
    process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
