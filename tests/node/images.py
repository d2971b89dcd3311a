"""The images of the pods of a node. There is no registry: the node reads them from archives."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import ims
from ims.demo.mirrors import debian_mirrors
from tests.node import CACHE
from tests.running import quietly

PAUSE = "localhost/pause:1"
"""The image of the container that keeps the namespaces of a pod."""
STEPS = f"localhost/ims-builder:{ims.__version__}"
BASE = "localhost/debian:bookworm-slim"
"""The base image of the Dockerfiles."""
ROOT = Path(__file__).parents[2]
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A machine in a container cannot raise its limits and has no systemd.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/running"
"""


def write_archives(folder: Path) -> None:
    """Build the images and write an archive of each to `folder`."""
    build_images()
    for name, file in ((PAUSE, "pause.tar"), (STEPS, "steps.tar")):
        quietly(["buildah", "push", "--quiet", name, f"docker-archive:{folder / file}:{name}"])


def build_images() -> None:
    """Build the images. Layers without changes are those of the last time."""
    kept = CACHE / "images"
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "containers.conf").write_text(_CONTAINERS)
    (kept / "storage.conf").write_text(_STORAGE.format(folder=kept))
    os.environ["CONTAINERS_CONF"] = str(kept / "containers.conf")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(kept / "storage.conf")
    _commit(Path("/bin/busybox"), "/busybox", PAUSE, "--entrypoint", '["/busybox", "sleep", "1000000000"]')
    if BASE not in quietly(["buildah", "images", "--format", "{{.Name}}:{{.Tag}}"]).split():
        with TemporaryDirectory(dir=CACHE) as scratch:
            _commit(_debian(Path(scratch)), "/", BASE, "--env", _PATH)
    quietly([ROOT / "scripts" / "containers", "localhost", "builder"])


def _debian(folder: Path) -> Path:
    """Make an archive of a small Debian."""
    mirrors, root = debian_mirrors(), folder / "debian.tar"
    main = f"deb {mirrors['DEBIAN_MIRROR']} bookworm main"
    security = f"deb {mirrors['DEBIAN_SECURITY_MIRROR']} bookworm-security main"
    quietly(["mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root, main, security])
    return root


def _commit(content: Path, place: str, name: str, *configuration: str) -> None:
    """Make an image of one file, or of the content of an archive."""
    container = quietly(["buildah", "from", "scratch"]).strip()
    quietly(["buildah", "add", container, content, place])
    quietly(["buildah", "config", *configuration, container])
    quietly(["buildah", "commit", "--quiet", "--rm", container, name])
