"""Seed step 9, first half: kiwi-ng builds the image root from the recipe.

Only `kiwi-ng system prepare` is used: `build` and `create` would also make an archive that nobody uploads. It is used
twice: once for the packages, and once in their root for all that follows. So a build that has that root already gives
what any other gives. The recipe's `images.sh`, which kiwi runs when it creates, is run here as kiwi would.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.errors import InputError
from ims.images import reproducible
from ims.images.changes import VOLATILE
from ims.images.overlay import mount
from ims.images.root import resolve_inside
from ims.recipes import kiwi_log, phases
from ims.recipes.description import APT
from ims.settings import settings
from ims.steps import build_host, package_root, provenance
from ims.steps.locks import taken
from ims.steps.programs import run_logged
from ims.steps.step import Step, StepInput
from ims.workspace import Workspace

log = logging.getLogger(__name__)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Every file that a build makes, and what is younger in a recipe, gets this time: the same packages give the same image.
SOURCE_DATE_EPOCH = 1700000000
# dpkg waits for the disk after every file: of no use for a root that a crash leaves to be built again. The others are
# its defaults, which hold no more where any is named.
DPKG_FORCE = "security-mac,downgrade,unsafe-io"
# kiwi shows the machine's in the root while it works.
INTERMEDIATE = (("etc", "resolv.conf"), ("etc", "hosts"), ("etc/sysconfig", "proxy"))
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8"}
_PROFILE_LINE = re.compile(r"(?:export )?(?P<name>\w+)='(?P<value>.*)'")


class Input(StepInput):
    """`package_manager` is what the recipe's description names, `ca_package` a package to add.

    Recipes of one `lineage` share their caches.

    `packages` is a digest of all packages that the build will install, with their checksums; None if it is not known.
    """

    lineage: str
    package_manager: str
    ca_package: Path
    packages: str | None = None


def run(step: Input) -> str:
    """Leaves the root in `image-root/` and kiwi's log in `kiwi.log`; returns the root's path."""
    root, started = step.workspace.image_root, int(time.time())
    shutil.rmtree(root, ignore_errors=True)
    step.workspace.kiwi_log.unlink(missing_ok=True)
    reproducible.clamp_times(step.workspace.recipe, SOURCE_DATE_EPOCH)
    build_host.isolate(step.package_manager, step.workspace)
    with package_cache(step) as cache:
        install_packages(step, root, cache, started)
        finish(step, root, cache)
    run_images_script(root)
    settle(root, started, step.workspace)
    return str(root)


@contextmanager
def package_cache(step: Input) -> Iterator[Path]:
    """The folder where packages stay for the next build of this lineage, or one of this job's own if it is in use.

    Package managers fail when two of them share one.
    """
    shared = settings().home / "cache" / "packages" / step.lineage
    shared.mkdir(parents=True, exist_ok=True)
    with taken(shared.with_suffix(".lock")) as ours:
        if not ours:
            log.info("another job uses the package cache of this recipe: packages are fetched again")
        yield shared if ours else step.workspace.package_cache


def install_packages(step: Input, root: Path, cache: Path, started: int) -> None:
    """Make a root that has the recipe's packages and nothing else of it, or take that of an earlier build.

    Raises as `prepare`.
    """
    description, key = step.workspace.package_description, None
    phases.write_package_part(step.workspace.recipe, description)
    if step.packages is not None:
        key = package_root.key(description, step.package_manager, step.packages, step.ca_package)
        if package_root.take(key, step.workspace, root):
            return
    cache.mkdir(parents=True, exist_ok=True)
    package = f"file://{step.ca_package}"
    if step.package_manager == APT:
        # kiwi shows its cache at the same path inside the root, where apt-get then finds the file too.
        package = str(shutil.copy(step.ca_package, cache))
    prepare(step, description, root, cache, "--add-bootstrap-package", package)
    # What kiwi keeps for the scripts it has yet to run; the next description brings its own.
    shutil.rmtree(root / "image")
    settle(root, started, step.workspace)
    if provenance.confirm(step.workspace, root) and key is not None:
        package_root.keep(step.lineage, key, root)


def finish(step: Input, root: Path, cache: Path) -> None:
    """Do the rest of what the recipe says in a root with its packages. Raises as `prepare`."""
    description = step.workspace.image_description
    phases.write_image_part(step.workspace.recipe, description)
    own = step.workspace.kiwi_config
    own.write_text(json.dumps({"runtime_checks": {"disable": phases.PACKAGE_CHECKS}}))
    if os.path.ismount(root):
        # kiwi takes what it finds mounted there for its own, and in the end takes it off.
        mount("--bind", root, root)
    with kept_files(root, step.workspace.replaced_files):
        prepare(step, description, root, cache, "--allow-existing-root", kiwi=("--config", own))


@contextmanager
def kept_files(root: Path, folder: Path) -> Iterator[None]:
    """Files of packages that kiwi replaces by the machine's own while it works, and then removes, are put back."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    kept = []
    for place, name in INTERMEDIATE:
        parent = resolve_inside(root, place)
        if parent is not None and (path := parent / name).is_file() and not path.is_symlink():
            copy(path, folder / path.name)
            kept.append(path)
    yield
    for path in kept:
        if not os.path.lexists(path):
            copy(folder / path.name, path)


def copy(source: Path, target: Path) -> None:
    """Copy a file with all that is known of it, from one mount to another as well."""
    subprocess.run(["cp", "--archive", "--", source, target], check=True)


def prepare(
    step: Input, description: Path, root: Path, cache: Path, *options: str, kiwi: tuple[str | Path, ...] = ()
) -> None:
    """Run `kiwi-ng system prepare` with `options`, and with `kiwi`, options of kiwi itself.

    Raises InputError or ImsError: what went wrong, from kiwi's log.
    """
    temporary, home = step.workspace.kiwi_temporary, step.workspace.kiwi_home
    for folder in (temporary, home, cache):
        folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("kiwi-ng"), "--debug", "--temp-dir", temporary),
        *kiwi,
        *("--shared-cache-dir", cache, "--setenv", "INITRD=No"),
        *("--setenv", f"SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}"),
        *("--setenv", f"DPKG_FORCE={DPKG_FORCE}"),
        *("system", "prepare", "--description", description, "--root", root),
        *options,
    ]
    environment = {**ENVIRONMENT, "HOME": str(home)}
    code, last = run_logged(command, environment, copy=step.workspace.kiwi_log)
    if code != 0:
        raise kiwi_log.build_error(last, code)


def run_images_script(root: Path) -> None:
    """Run the recipe's `images.sh` in the root, in the environment that kiwi left for it.

    Raises InputError: the script failed.
    """
    script = resolve_inside(root, "image/images.sh")
    if script is None:
        return
    program = ["/image/images.sh"] if os.access(script, os.X_OK) else ["bash", "/image/images.sh"]
    environment = {
        **ENVIRONMENT,
        "HOME": "/root",
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
        **profile(root),
    }
    log.info("running images.sh")
    with build_host.kernel_file_systems(root):
        code, last = run_logged(["chroot", root, *program], environment)
    if code != 0:
        raise InputError(
            f"the recipe's images.sh ended with exit code {code}: {last[-1] if last else 'it printed nothing'}"
        )


def settle(root: Path, started: int, workspace: Workspace) -> None:
    """Take from a root what differs from one build to the next; `started`: when this one began."""
    reproducible.settle(root, started, SOURCE_DATE_EPOCH, workspace.root)
    for name in VOLATILE:
        # What was mounted or written there is not in the image, but would be seen in the folder's time.
        os.utime(root / name, (SOURCE_DATE_EPOCH,) * 2, follow_symlinks=False)


def profile(root: Path) -> dict[str, str]:
    """The variables (`kiwi_iname`, …) that kiwi gives to scripts, from the file it keeps them in."""
    path = resolve_inside(root, ".profile")
    lines = path.read_text().splitlines() if path is not None and path.is_file() else []
    return {match["name"]: match["value"] for line in lines if (match := _PROFILE_LINE.fullmatch(line))}


STEP = Step("build_image", Input, run, privileged=True)
