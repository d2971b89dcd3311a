"""Compare builds after small changes with a build that starts with empty caches."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ims.demo.build import RECIPE
from ims.demo.mirrors import debian_mirrors
from ims.settings import settings
from tests.flows.artifacts import fetch
from tests.flows.leftovers import Leftovers
from tests.perf.measure import Cost, measured, table
from tests.service import Service

RECIPES = 20
# Packages that compute nodes have in addition to those of the shipped recipe.
NODE = (
    *("build-essential", "cmake", "gdb", "gfortran", "git", "liblapack-dev", "libfftw3-dev", "libhdf5-openmpi-dev"),
    *("libopenmpi-dev", "openmpi-bin", "environment-modules", "python3-matplotlib", "python3-pandas", "python3-scipy"),
    *("ethtool", "htop", "ibverbs-utils", "iperf3", "nfs-common", "nvme-cli", "pciutils", "rdma-core"),
    *("rsyslog", "smartmontools", "strace", "tmux", "vim-nox", "xfsprogs"),
)
HEAD = ("", "wall s", "of cold", "target", "CPU s", "MB uploaded")


def incremental_table(service: Service, folder: Path) -> str:
    """Return the cost of a cold build, a changed script, an added package, and a night without changes."""
    shutil.rmtree(settings().home / "cache", ignore_errors=True)
    shutil.copytree(RECIPE, folder)
    _add(folder, NODE)
    _replace(folder / "config.sh", "dpkg --purge usrmerge", "echo staying, for perl is needed: usrmerge")
    changes: dict[str, tuple[str, Callable[[], None]]] = {
        "cold": ("", lambda: None),
        "a script changed": ("25 %", lambda: _replace(folder / "config.sh", "set -e", "echo changed\nset -e")),
        "a package added": ("40 %", lambda: _add(folder, ["tree"])),
    }
    rows: list[list[str]] = []
    walls: list[float] = []
    for name, (target, change) in changes.items():
        change()
        record = _push(service, folder, "incremental")
        with measured() as cost:
            job = service.wait(service.create(record["id"])["id"], timeout=1200)
        assert job["status"] == "success", job["reason"]
        walls.append(cost.wall)
        rows.append(_row(name, cost, walls[0], target, _uploaded(service, job)))
        image = service.client.get(f"images/{job['resultant_image_id']}")
    cost = _night(service, folder, image)
    each = Cost(cost.wall / RECIPES, cost.cpu / RECIPES)
    rows.append(_row(f"a night of {RECIPES} recipes, nothing changed: each", each, walls[0], "1 %", 0))
    return f"\n### a build after a small change, {image['package_count']} packages\n\n" + table(HEAD, rows)


def _row(name: str, cost: Cost, cold: float, target: str, uploaded: int) -> list[str]:
    share = f"{100 * cost.wall / cold:.1f} %"
    return [name, f"{cost.wall:.1f}", share, target, f"{cost.cpu:.1f}", f"{uploaded / 1e6:.1f}"]


def _night(service: Service, folder: Path, image: dict[str, Any]) -> Cost:
    """Measure a night of recipes that equal the recipe of the image. Each has an image that is up to date."""
    for number in range(RECIPES):
        service.adopt(image, _push(service, folder, f"night-{number}", nightly=True))
    before = _objects(service)
    with measured() as cost:
        night = service.client.create("nights", force=False)
        while night["status"] not in ("success", "error"):
            time.sleep(0.1)
            night = service.client.get(f"nights/{night['id']}")
    assert [recipe["outcome"] for recipe in night["recipes"]] == ["unchanged"] * RECIPES, night
    assert _objects(service) == before
    return cost


def _objects(service: Service) -> set[str]:
    return set(Leftovers(service).before["objects"])


def _add(folder: Path, names: Iterable[str]) -> None:
    packages = "".join(f'<package name="{name}"/>' for name in names)
    _replace(folder / "config.xml", "</image>", f'<packages type="image">{packages}</packages></image>')


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def _push(service: Service, folder: Path, name: str, **fields: Any) -> dict[str, Any]:
    """Push the folder under a name. All pushes of one name belong to one lineage."""
    record = service.push(folder, "debian12", **debian_mirrors())
    return dict(service.client.update(f"recipes/{record['id']}", name=name, **fields))


def _uploaded(service: Service, job: dict[str, Any]) -> int:
    """Return the size of all artifacts of the image that a job created."""
    image = service.client.get(f"images/{job['resultant_image_id']}")
    with TemporaryDirectory() as temporary:
        return sum(path.stat().st_size for path in fetch(service, image, Path(temporary)).values())
