"""Seed step 9, first half: kiwi-ng builds the image root from the recipe.

Only `kiwi-ng system prepare` is used: `build` and `create` would also make an archive that nobody uploads. The recipe's
`images.sh`, which kiwi runs when it creates, is run here as kiwi would.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ims.errors import InputError
from ims.images.root import resolve_inside
from ims.recipes import kiwi_log
from ims.recipes.description import APT
from ims.settings import settings
from ims.steps import build_host
from ims.steps.programs import run_logged
from ims.steps.step import Step, StepInput

log = logging.getLogger(__name__)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Every file that a build makes gets this time, so that the same packages give the same image.
SOURCE_DATE_EPOCH = "1700000000"
_PROFILE_LINE = re.compile(r"(?:export )?(?P<name>\w+)='(?P<value>.*)'")


class Input(StepInput):
    """`package_manager` is what the recipe's description names, `ca_package` a package to add."""

    recipe_id: str
    package_manager: str
    ca_package: Path


def run(step: Input) -> str:
    """Leaves the root in `image-root/` and kiwi's log in `kiwi.log`; returns the root's path."""
    root = step.workspace / "image-root"
    shutil.rmtree(root, ignore_errors=True)
    build_host.isolate(step.package_manager, step.workspace)
    with package_cache(step) as cache:
        prepare(step, root, cache)
    run_images_script(root)
    for name in ("dev", "proc", "run", "sys", "tmp"):
        # What was mounted or written there is not in the image, but would be seen in the folder's time.
        os.utime(root / name, (int(SOURCE_DATE_EPOCH),) * 2, follow_symlinks=False)
    return str(root)


@contextmanager
def package_cache(step: Input) -> Iterator[Path]:
    """The folder where packages stay for the next build of this recipe, or one of this job's own if it is in use.

    Package managers fail when two of them share one.
    """
    shared = settings().home / "cache" / "packages" / step.recipe_id
    shared.mkdir(parents=True, exist_ok=True)
    with shared.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another job uses the package cache of this recipe: packages are fetched again")
            yield step.workspace / "cache"
        else:
            yield shared


def prepare(step: Input, root: Path, cache: Path) -> None:
    """Run `kiwi-ng system prepare`. Raises InputError or ImsError: what went wrong, from kiwi's log."""
    temporary, home = step.workspace / "tmp", step.workspace / "home"
    for folder in (temporary, home, cache):
        folder.mkdir(parents=True, exist_ok=True)
    package = step.ca_package
    if step.package_manager == APT:
        # kiwi shows its cache at the same path inside the root, where apt-get then finds the file too.
        package = Path(shutil.copy(step.ca_package, cache))
    command = [
        *(Path(sys.executable).with_name("kiwi-ng"), "--debug", "--temp-dir", temporary),
        *("--shared-cache-dir", cache, "--setenv", "INITRD=No"),
        *("--setenv", f"SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}"),
        *("system", "prepare", "--description", step.workspace / "recipe", "--root", root),
        *("--add-bootstrap-package", package if step.package_manager == APT else f"file://{package}"),
    ]
    environment = {"PATH": PATH, "HOME": str(home), "LANG": "C.UTF-8"}
    code, last = run_logged(command, environment, copy=step.workspace / "kiwi.log")
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
        "PATH": PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        **profile(root),
    }
    log.info("running images.sh")
    with build_host.kernel_file_systems(root):
        code, last = run_logged(["chroot", root, *program], environment)
    if code != 0:
        raise InputError(
            f"the recipe's images.sh ended with exit code {code}: {last[-1] if last else 'it printed nothing'}"
        )


def profile(root: Path) -> dict[str, str]:
    """The variables (`kiwi_iname`, …) that kiwi gives to scripts, from the file it keeps them in."""
    path = resolve_inside(root, ".profile")
    lines = path.read_text().splitlines() if path is not None and path.is_file() else []
    return {match["name"]: match["value"] for line in lines if (match := _PROFILE_LINE.fullmatch(line))}


STEP = Step("build_image", Input, run, privileged=True)
