"""`make bench`: prints the results of all benchmarks as Markdown.

`python -m tests.perf flows|changes|incremental|steps|box|splicing|large|load` runs one benchmark.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ims.builder.squashfs import EXCLUDED, squashfs_command
from ims.demo.build import RECIPE
from ims.demo.mirrors import debian_mirrors
from ims.recipes.template import render
from ims.sandbox import namespaces
from ims.settings import settings
from ims.stack import lifecycle
from ims.stack.environment import s3_environment
from tests.installation import installation
from tests.perf import box, load
from tests.perf.changes import changes_table
from tests.perf.customize import one_file_table, prompt_table
from tests.perf.incremental import incremental_table
from tests.perf.large import large_table
from tests.perf.measure import Cost, measured, table
from tests.perf.splicing import splicing_table
from tests.perf.steps import steps_table
from tests.service import Service

ROUNDS = 2


def main() -> None:
    """Run the benchmark that the argument names, or all, each with its own process and installation."""
    if len(sys.argv) > 1:
        PARTS[sys.argv[1]]()
        return
    for part in PARTS:
        subprocess.run([sys.executable, "-m", "tests.perf", part], check=True)


@contextmanager
def _stack() -> Iterator[Service]:
    installation()
    try:
        yield Service(settings(), lifecycle.up(settings(), _say))
    finally:
        lifecycle.reset(settings())


def flows() -> None:
    """Compare create and customize jobs with the same work outside of Airflow."""
    workspace = installation().home / "bare"
    with _stack() as service:
        recipe = service.push(RECIPE, "debian12", **debian_mirrors())["id"]
        _say("filling the package caches")
        _, cold = _flow(service, recipe)
        _bare(service, workspace)
        costs: dict[str, list[Cost]] = {"bare": [], "flow": []}
        jobs = []
        for number in range(ROUNDS):
            _say(f"round {number + 1} of {ROUNDS}")
            costs["bare"].append(_bare(service, workspace))
            shutil.rmtree(
                settings().home / "cache" / "roots", ignore_errors=True
            )  # Bare kiwi-ng has no package root either.
            job, cost = _flow(service, recipe)
            costs["flow"].append(cost)
            jobs.append(job)
        print(_create_table(costs))
        print(_share_table(jobs))
        print(_pack_table(workspace))
        _say("customizing")
        image = service.client.get(f"images/{jobs[-1]['resultant_image_id']}")
        creates = {"create_image, warm package cache": costs["flow"][-1], "create_image, cold": cold}
        print(one_file_table(service, image, installation().home / "one-file", creates))
        print(prompt_table(installation().home / "prompt"), flush=True)


def changes() -> None:
    """Measure a customization that changes one file."""
    with _stack() as service:
        recipe = service.push(RECIPE, "debian12", **debian_mirrors())["id"]
        job, _ = _flow(service, recipe)
        image = service.client.get(f"images/{job['resultant_image_id']}")
        print(changes_table(service, image, installation().home / "changes", "Debian"), flush=True)


def incremental() -> None:
    """Measure builds after small changes, and a night in which nothing has changed."""
    with _stack() as service:
        print(incremental_table(service, installation().home / "incremental"), flush=True)


def steps() -> None:
    """Measure the overhead of each step."""
    with _stack() as service:
        print(steps_table(service, installation().home / "repository"), flush=True)


def splicing() -> None:
    """Measure how a large image is spliced, without a stack."""
    folder = installation().home / "splicing"
    folder.mkdir()
    print(splicing_table(folder), flush=True)


def large() -> None:
    """Measure the steps after a shell in a large image, without a stack. Needs 40 GB on the disk."""
    folder = installation().home / "large"
    folder.mkdir()
    try:
        print(large_table(folder), flush=True)
    finally:
        shutil.rmtree(folder)


PARTS: dict[str, Callable[[], None]] = {
    "flows": flows,
    "changes": changes,
    "incremental": incremental,
    "steps": steps,
    "box": box.box,
    "splicing": splicing,
    "large": large,
    "load": load.main,
}


def _say(text: str) -> None:
    print(f"· {text}", file=sys.stderr)


def _flow(service: Service, recipe: str) -> tuple[dict[str, Any], Cost]:
    with measured() as cost:
        job = service.wait(service.create(recipe)["id"], timeout=1200)
    assert job["status"] == "success", job["reason"]
    return job, cost


def _bare(service: Service, workspace: Path) -> Cost:
    for name in ("image-root", "rootfs"):
        shutil.rmtree(workspace / name, ignore_errors=True)
    (workspace / "rootfs").unlink(missing_ok=True)
    (workspace / "cache").mkdir(parents=True, exist_ok=True)
    shutil.copytree(RECIPE, workspace / "recipe", dirs_exist_ok=True)
    render(workspace / "recipe", debian_mirrors())
    command = [*namespaces.STEP, sys.executable, "-m", "tests.perf.bare", str(workspace), settings().images_bucket]
    environment = {**os.environ, **s3_environment(settings(), service.credentials)}
    with measured() as cost:
        subprocess.run(command, env=environment, check=True)
    return cost


def _create_table(costs: dict[str, list[Cost]]) -> str:
    wall = {name: statistics.median(cost.wall for cost in found) for name, found in costs.items()}
    cpu = {name: statistics.median(cost.cpu for cost in found) for name, found in costs.items()}
    rows = [[name, f"{wall[name]:.1f}", f"{cpu[name]:.1f}"] for name in costs]
    rows.append(["flow / bare", f"{wall['flow'] / wall['bare']:.2f}", f"{cpu['flow'] / cpu['bare']:.2f}"])
    rows.append(["flow - bare", f"{wall['flow'] - wall['bare']:+.1f}", f"{cpu['flow'] - cpu['bare']:+.1f}"])
    rows.append(["target: 1.05 bare + 20 s", f"{1.05 * wall['bare'] + 20:.1f}", ""])
    return f"\n### create, median of {ROUNDS}\n\n" + table(["", "wall s", "CPU s"], rows)


def _share_table(jobs: list[dict[str, Any]]) -> str:
    """Return how the time of a job is divided among the steps and the time between them."""
    shares: dict[str, list[float]] = {}
    for job in jobs:
        ran = [step for step in job["steps"] if step["started"]]  # The steps of a debug shell do not run.
        times = {step["name"]: (_moment(step["started"]), _moment(step["ended"])) for step in ran}
        whole = max(end for _, end in times.values()) - min(start for start, _ in times.values())
        spans = {name: end - start for name, (start, end) in times.items() if "[" not in name}
        uploads = [span for name, span in times.items() if "[" in name]
        spans["upload_artifacts"] = max(end for _, end in uploads) - min(start for start, _ in uploads)
        for name, seconds in {**spans, "between the steps": whole - sum(spans.values()), "whole": whole}.items():
            shares.setdefault(name, []).append(seconds)
    whole = statistics.median(shares["whole"])
    rows = [
        [name, f"{statistics.median(found):.1f}", f"{100 * statistics.median(found) / whole:.0f} %"]
        for name, found in shares.items()
    ]
    return "\n### each step's share\n\n" + table(["step", "wall s", "share"], rows)


def _pack_table(workspace: Path) -> str:
    """Compare our compression with other levels and with xz, the default of kiwi-ng."""
    root, ways = workspace / "image-root", {}
    target = workspace / "packed"
    ways["zstd, as set"] = squashfs_command(root, target)
    for level in (3, 15):
        command = squashfs_command(root, target)
        command[command.index("-Xcompression-level") + 1] = str(level)
        ways[f"zstd -{level}"] = command
    ways["xz, kiwi-ng's default"] = ["mksquashfs", str(root), str(target), "-noappend", "-comp", "xz", "-wildcards"]
    ways["xz, kiwi-ng's default"] += ["-e", *EXCLUDED]
    rows = []
    for name, command in ways.items():
        with measured() as cost:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows.append([name, f"{cost.wall:.1f}", f"{cost.cpu:.1f}", f"{target.stat().st_size / 1e6:.1f}"])
        time.sleep(1)
    return "\n### packing the rootfs\n\n" + table(["", "wall s", "CPU s", "MB"], rows)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    main()
