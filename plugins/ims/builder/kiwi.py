"""Runs kiwi-ng on one part of a recipe, see `ims.recipes.phases`, and the script that kiwi does not run."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ims.builder import logins
from ims.builder.package_count import PackageCount
from ims.builder.rpm_database import single_database
from ims.errors import PermanentError
from ims.images.root import resolve_inside
from ims.network.process import inherited_proxy
from ims.programs import run_logged
from ims.recipes import kiwi_log, phases
from ims.recipes.expansion.xml import read_xml
from ims.removal import remove
from ims.sandbox.image_programs import run_in_image
from ims.sandbox.network import SCRIPTS_PROXY
from ims.sandbox.overlay import mount
from ims.workspace import Workspace

log = logging.getLogger(__name__)

_PROGRAM = Path(__file__).with_name("kiwi_program.py")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8"}
# Files that a build creates, and all files of a recipe, get this time, so that equal packages give equal images.
SOURCE_DATE_EPOCH = 1700000000
# Without unsafe-io, dpkg waits for the disk after each file, which is useless: after a crash the root is built again.
# The other options are dpkg's defaults, which no longer apply if any option is set.
DPKG_FORCE = "security-mac,downgrade,unsafe-io"
# kiwi replaces these files with the host's during a build.
HOST_FILES = (("etc", "resolv.conf"), ("etc", "hosts"), ("etc/sysconfig", "proxy"))
# kiwi unpacks the first Debian package with tar. In the sandbox, tar cannot change the owner and mode of these folders.
_PACKAGE_TAR_OPTIONS = "--exclude=./proc --exclude=./sys"
LOGGED_ON_FAILURE = 500
"""How many of kiwi's last lines are logged if it fails, whatever their level."""
_PROFILE_LINE = re.compile(r"(?:export )?(?P<name>\w+)='(?P<value>.*)'")


def install_packages(workspace: Workspace, package_cache: Path, package: str) -> None:
    """Make an image root with the packages of `package_description` and, among the first, `package`.

    Raises ImsError, PermanentError or UnavailableError with the reason from kiwi's log.
    """
    _prepare(
        workspace,
        workspace.package_description,
        package_cache,
        *("--add-bootstrap-package", package),
        environment={"TAR_OPTIONS": _PACKAGE_TAR_OPTIONS},
    )
    # kiwi's copy of the description, for scripts that come later: the image description brings its own.
    remove(workspace.image_root / "image")


def finish(workspace: Workspace, package_cache: Path) -> None:
    """Apply `image_description` to an image root with its packages. Raises the errors of `install_packages`."""
    root = workspace.image_root
    workspace.kiwi_config.write_text(json.dumps({"runtime_checks": {"disable": phases.PACKAGE_CHECKS}}))
    if os.path.ismount(root):
        # kiwi unmounts the image root at the end. This additional mount is the one that it unmounts.
        mount("--bind", root, root)
    with _host_files_restored(workspace), single_database(root):
        _prepare(
            workspace,
            workspace.image_description,
            package_cache,
            "--allow-existing-root",
            kiwi_options=("--config", workspace.kiwi_config),
        )


def _prepare(
    workspace: Workspace,
    description: Path,
    package_cache: Path,
    *options: str,
    kiwi_options: tuple[str | Path, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run `kiwi-ng system prepare` with `options`, and with the global options `kiwi_options`."""
    for folder in (workspace.kiwi_temporary, workspace.kiwi_home, package_cache):
        folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        *(sys.executable, "-P", _PROGRAM, SCRIPTS_PROXY),
        *("--debug", "--temp-dir", workspace.kiwi_temporary),
        *kiwi_options,
        *("--shared-cache-dir", package_cache, "--setenv", "INITRD=No"),
        *("--setenv", f"SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}"),
        *("--setenv", f"DPKG_FORCE={DPKG_FORCE}"),
        *("system", "prepare", "--description", description, "--root", workspace.image_root),
        *options,
    ]
    variables = {**ENVIRONMENT, **inherited_proxy(), "HOME": str(workspace.kiwi_home), **(environment or {})}
    if release := (read_xml(description).findtext("preferences/release-version") or "").strip():
        variables["ZYPP_REPO_RELEASEVER"] = release  # kiwi passes $releasever to dnf only
    try:
        code, last = run_logged(command, variables, copy=workspace.kiwi_log, parse=PackageCount(kiwi_log.LineParser()))
    finally:
        logins.remove_from_cache(package_cache)
        logins.remove_from_root(workspace.image_root, workspace.kiwi_home)
    if code != 0:
        log.info("kiwi-ng failed. The last lines of its log are:")
        for line in list(last)[-LOGGED_ON_FAILURE:]:
            log.info("%s", line)
        raise kiwi_log.build_error(last, code)


@contextmanager
def _host_files_restored(workspace: Workspace) -> Iterator[None]:
    """Restore the image's own `HOST_FILES`, which kiwi removes in the end."""
    folder = workspace.replaced_files
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    copied = []
    for place, name in HOST_FILES:
        parent = resolve_inside(workspace.image_root, place)
        if parent is not None and (path := parent / name).is_file() and not path.is_symlink():
            _copy(path, folder / path.name)
            copied.append(path)
    yield
    for path in copied:
        if not os.path.lexists(path):
            _copy(folder / path.name, path)


def _copy(source: Path, target: Path) -> None:
    """Copy a file with all its attributes, also to another file system."""
    subprocess.run(["cp", "--archive", "--", source, target], check=True)


def run_images_script(root: Path) -> None:
    """Run the recipe's `images.sh` like `kiwi-ng system create` would, in the environment that kiwi left for it.

    Raises PermanentError if the script fails.
    """
    script = resolve_inside(root, "image/images.sh")
    if script is None:
        return
    program = ["/image/images.sh"] if os.access(script, os.X_OK) else ["bash", "/image/images.sh"]
    environment = {
        **ENVIRONMENT,
        **inherited_proxy(),
        "HOME": "/root",
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
        **read_profile(root),
    }
    log.info("running images.sh")
    code, last = run_in_image(root, program, environment)
    if code != 0:
        raise PermanentError(
            f"the recipe's images.sh ended with exit code {code}: {last[-1] if last else 'it printed nothing'}",
            "See its output in the log above",
        )


def read_profile(root: Path) -> dict[str, str]:
    """The variables (`kiwi_iname`, …) that kiwi passes to scripts, from the file in which it stores them."""
    path = resolve_inside(root, ".profile")
    lines = path.read_text().splitlines() if path is not None and path.is_file() else []
    return {match["name"]: match["value"] for line in lines if (match := _PROFILE_LINE.fullmatch(line))}
