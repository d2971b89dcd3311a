"""The programs of Kubernetes, built from the source package of Debian: the newest with complete source there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from ims.demo.mirrors import debian_mirrors
from tests.node import CACHE, PROGRAMS, NodeUnavailableError
from tests.running import quietly

DAEMONS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
NAMES = (*DAEMONS, "kubectl")
SUITE = "bookworm"
GO = "/usr/lib/go-1.19/bin"
# The build reads this from git, which a source package lacks.
_VERSION = {
    "KUBE_GIT_COMMIT": "faecb196815e248d3ecfb03c680a4507229c2a56",
    "KUBE_GIT_TREE_STATE": "archive",
    "KUBE_GIT_VERSION": "v1.20.2",
    "KUBE_GIT_MAJOR": "1",
    "KUBE_GIT_MINOR": "20",
}


def build() -> None:
    """Build the programs unless they exist. That takes about twelve minutes of one processor and two gigabytes."""
    if all((PROGRAMS / name).exists() for name in NAMES):
        return
    print("building Kubernetes, once", flush=True)
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as folder:
        source = _source(Path(folder))
        _make(source, Path(folder))
        for name in NAMES:
            built = next(path for path in source.glob(f"_output/**/{name}") if path.is_file())
            shutil.copy(built, partial := PROGRAMS / f"{name}.partial")
            partial.rename(PROGRAMS / name)


def _source(folder: Path) -> Path:
    """Download and unpack the source package, without changes to the package lists of the machine.

    Raises NodeUnavailableError if the mirror of the machine does not have it.
    """
    sources = folder / "sources.list"
    sources.write_text(f"deb-src {debian_mirrors()['DEBIAN_MIRROR']} {SUITE} main\n")
    (folder / "lists" / "partial").mkdir(parents=True)
    places = (f"Etc::SourceList={sources}", "Etc::SourceParts=/dev/null", f"State::Lists={folder}/lists")
    options = ("-qq", "-o", "APT::Sandbox::User=root", *(word for place in places for word in ("-o", f"Dir::{place}")))
    try:
        quietly(["apt-get", *options, "update"])
        quietly(["apt-get", *options, "source", "kubernetes"], cwd=folder)
    except RuntimeError as error:
        raise NodeUnavailableError(f"the source package of Kubernetes is not available: {error}") from error
    return next(path for path in folder.glob("kubernetes-*") if path.is_dir())


def _make(source: Path, folder: Path) -> None:
    version = folder / "version"
    version.write_text("".join(f"{name}='{value}'\n" for name, value in _VERSION.items()))
    go_path = folder / "go"
    (go_path / "src/k8s.io").mkdir(parents=True)
    (go_path / "src/k8s.io/kubernetes").symlink_to(source)
    environment = {
        **os.environ,
        "PATH": f"{GO}:{os.environ['PATH']}",
        "HOME": str(folder),
        "GOPATH": str(go_path),
        "GOPROXY": "off",
        "GOFLAGS": "-tags=providerless,dockerless",
        "KUBE_BUILD_PLATFORMS": "linux/amd64",
        "KUBE_STATIC_OVERRIDES": "kubelet",
        "KUBE_GIT_VERSION_FILE": str(version),
    }
    quietly(["make", "WHAT=" + " ".join(f"cmd/{name}" for name in NAMES)], cwd=source, env=environment)
