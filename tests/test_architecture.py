"""The parts of `plugins/ims`: what each may import, which libraries it may use, and how large it may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.builder.programs import OTHER_PARTS

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "plugins"
IMS = PLUGINS / "ims"

# Which other parts a part may import, lowest first. Every part may import `errors` and the version.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "masking": {"files"},
    "removal": set(),
    "documents": set(),
    "workspace": set(),
    "cleaning": set(),
    "settings": set(),
    "logs": {"masking", "settings"},
    "network": {"settings"},
    "cache": {"settings", "workspace"},
    "jobs": set(),
    "lineage": {"jobs"},
    "records": {"lineage"},
    "recipes": {"documents", "files", "masking", "network", "removal"},
    "storage": {"documents"},
    "params": {"settings"},
    "pools": {"settings"},
    "workflows": {"params", "pools", "settings"},
    "nights": {"lineage", "settings"},
    "replays": {"lineage", "nights"},
    "client": set(),
    "programs": {"masking", "recipes"},
    "sandbox": {"logs", "masking", "network", "programs", "removal", "settings"},
    "images": {"sandbox"},
    "shell": {"files", "images", "network", "removal", "sandbox"},
    "builder": {
        *("cache", "files", "images", "masking", "network", "programs"),
        *("recipes", "removal", "replays", "sandbox", "settings", "workspace"),
    },
    "steps": {
        *("builder", "cache", "files", "images", "logs", "masking", "network", "programs"),
        *("recipes", "removal", "replays", "sandbox", "settings", "shell", "storage", "workspace"),
    },
    "gateway": {"settings"},
    "supervisord": {"settings"},
    "stack": {"client", "files", "removal", "pools", "settings", "storage", "supervisord", "workflows"},
    "runtime": {
        *("cache", "cleaning", "files", "jobs", "logs", "programs", "recipes", "removal", "sandbox"),
        *("settings", "shell", "steps", "supervisord", "workspace"),
    },
    "backup": {"files", "records", "removal", "settings", "stack", "storage", "supervisord"},
    "doctor": {"client", "runtime", "sandbox", "settings", "stack", "storage"},
    "cli": {"backup", "client", "doctor", "files", "masking", "recipes", "settings", "steps", "storage"},
    "demo": {"cli", "client", "files", "recipes", "settings", "stack", "storage"},
    "connections": {"client", "settings", "storage"},
    "triggers": {"client", "connections", "network", "recipes", "runtime"},
    "operators": {
        *("cleaning", "client", "connections", "jobs", "lineage", "logs", "nights", "params"),
        *("recipes", "replays", "runtime", "settings", "steps", "storage", "triggers", "workflows"),
    },
    "sensors": {"jobs", "operators", "recipes", "settings", "triggers", "workflows"},
    "api": {
        *("cleaning", "connections", "images", "jobs", "nights", "params", "recipes"),
        *("records", "replays", "settings", "storage", "workflows"),
    },
    "dags": {"operators", "params", "sensors", "settings", "workflows"},
    "executor": {"sandbox"},
    "scheduler": {"runtime", "storage"},
    "ui": {"api", "records", "settings", "workflows"},
    "ims_plugin": {"api", "ui"},
}
# Which parts may use a library; the others go through them.
MAY_USE: dict[str, set[str]] = {
    "airflow": {
        "api",
        "connections",
        "dags",
        "executor",
        "ims_plugin",
        "operators",
        "scheduler",
        "sensors",
        "triggers",
    },
    "aiobotocore": {"storage"},
    "boto3": {"storage"},
    "botocore": {"storage"},
    "mypy_boto3_s3": {"storage"},
    "fastapi": {"api", "ui"},
    "jinja2": {"recipes"},
    "lxml": {"recipes"},
    "alembic": {"records"},
    "sqlalchemy": {"records"},
}

# Programs that only one room may start: they make namespaces or change the root.
FENCED_PROGRAMS = dict.fromkeys(("unshare", "chroot", "bwrap", "nsenter", "mount", "umount"), "sandbox")

MAX_LINES = 300
MAX_MODULES = 25
LARGE: dict[str, str] = {"plugins/ims/settings.py": "it is a table with an entry for each setting"}
"""Modules and packages that may be larger than that, by their path below the project, each with the reason."""

# The rooms of `api` and the modules above them: each imports only itself and what comes before it.
API_ROOMS = ("errors", "http", "catalog", "runs", "jobs", "retention", "app", "sts", "openapi", "reference")


def part_of(path: Path) -> str:
    """The part of the project that a module belongs to."""
    if path.is_relative_to(IMS):
        return path.relative_to(IMS).parts[0].removesuffix(".py")
    return "dags" if path.parent.name == "dags" else path.stem


def imported(path: Path) -> Iterator[str]:
    """The whole names of what a module imports, inside of functions too; `from ims import x` is ims.x."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{name.name}" for name in node.names)


MODULES = sorted(path for folder in (PLUGINS, ROOT / "dags") for path in folder.rglob("*.py"))
IMPORTS = [(part_of(path), name) for path in MODULES for name in imported(path)]


def test_all_parts_are_known() -> None:
    """The tables contain every part, and no part that does not exist."""
    assert {part_of(path) for path in MODULES} - {"__init__"} == set(MAY_IMPORT)
    assert set().union(*MAY_USE.values()) <= set(MAY_IMPORT)


def test_tables_have_no_circle() -> None:
    """Each part imports only parts that stand above it in the table."""
    order = list(MAY_IMPORT)
    for part, others in MAY_IMPORT.items():
        assert all(order.index(other) < order.index(part) for other in others), part


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_part_imports_what_it_may(part: str) -> None:
    """A part imports only parts that the table allows."""
    found = {name.split(".")[1] for importer, name in IMPORTS if importer == part and name.startswith("ims.")}
    assert found - {part, "errors", "__version__"} <= MAY_IMPORT[part]


def test_digest_of_the_code_covers_what_steps_import() -> None:
    """Plans and replays see a change of every part that steps, or the runtime that starts them, can import."""
    pending, found = {"errors", "steps", "runtime"}, set()
    while pending:
        found.add(part := pending.pop())
        pending |= MAY_IMPORT[part] - found
    assert set(MAY_IMPORT) - found - {"dags", "ims_plugin"} == OTHER_PARTS


@pytest.mark.parametrize("room", API_ROOMS[1:6])
def test_rooms_of_the_api_import_downwards(room: str) -> None:
    """The order is HTTP, catalog, runs, jobs, retention. A package imports only those that come before it."""
    names = {name for path in (IMS / "api" / room).glob("*.py") for name in imported(path)}
    found = {name.split(".")[2] for name in names if name.startswith("ims.api.")}
    assert found <= set(API_ROOMS[: API_ROOMS.index(room) + 1])


@pytest.mark.parametrize("room", API_ROOMS[2:6])
def test_rooms_raise_domain_errors(room: str) -> None:
    """Only `http` chooses HTTP statuses, except for the trigger guard, which is a middleware."""
    paths = [path for path in (IMS / "api" / room).glob("*.py") if path.stem != "trigger_guard"]
    assert not {name for path in paths for name in imported(path) if name.startswith("ims.api.http.problems")}


def test_rooms_of_the_api_are_known() -> None:
    """The table contains every package of the API."""
    assert {path.stem for path in (IMS / "api").iterdir()} - {"__init__", "__pycache__"} == set(API_ROOMS)


@pytest.mark.parametrize("library", MAY_USE)
def test_library_is_used_where_it_may(library: str) -> None:
    """Only the parts in the table import the library."""
    assert {importer for importer, name in IMPORTS if name.split(".")[0] == library} <= MAY_USE[library]


def run(program: str, home: Path) -> None:
    """Run a program that asserts something of this project."""
    environment = {"PYTHONPATH": str(PLUGINS), "AIRFLOW_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_steps_run_without_airflow(tmp_path: Path) -> None:
    """Neither steps nor their imports need Airflow, because their containers do not have it."""
    names = [path.stem for path in sorted((IMS / "steps").glob("*.py")) if not path.stem.startswith("__")]
    assert len(names) > 4
    imports = "\n".join(f"import ims.steps.{name}" for name in names)
    run(f"import sys\nimport ims.runtime.local.process\n{imports}\nassert 'airflow' not in sys.modules", tmp_path)


def test_containers_of_steps_have_what_steps_import(tmp_path: Path) -> None:
    """The lock file of the container image has every library that steps import. httpx works without click."""
    locked = re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements-steps.lock").read_text(), re.MULTILINE)
    imports = "\n".join(f"import ims.steps.{path.stem}" for path in (IMS / "steps").glob("*.py"))
    imports += "\nimport boto3"  # only functions import it
    run(
        f"import sys\nfrom importlib.metadata import packages_distributions\nbefore = set(sys.modules)\n{imports}\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "projects_by_name = packages_distributions()\n"
        "projects = (project for name in names for project in projects_by_name.get(name, ()))\n"
        "found = {project.lower().replace('_', '-') for project in projects}\n"
        f"missing = found - set({locked!r}) - {{'ims', 'click'}}\n"
        "assert 'boto3' in found and not missing, missing",
        tmp_path,
    )


def test_plugin_is_cheap_to_load(tmp_path: Path) -> None:
    """Every Airflow process loads the plugin, so it must not slow down the start of a task."""
    heavy = ("fastapi", "sqlalchemy", "boto3", "ims.settings", "httpx", "lxml")
    run(
        "import sys, airflow.plugins_manager\nbefore = set(sys.modules)\nimport ims_plugin\n"
        f"assert not (set(sys.modules) - before) & {set(heavy)!r}",
        tmp_path,
    )


STEPS = sorted(path.stem for path in (IMS / "steps").glob("*.py") if "STEP = Step(" in path.read_text())
# To import one of them takes 20 to 200 ms, so functions import it when they use it.
HEAVY = {"airflow", "asyncio", "boto3", "cryptography", "cyclonedx", "httpx", "jinja2", "rich"}
NEEDED = {
    "build_ca_package": {"cryptography"},
    "plan_images": {"asyncio", "httpx", "rich"},
    "resolve_packages": {"asyncio", "httpx", "rich"},
}
"""The heavy libraries that a step always uses, with what they import."""


@pytest.mark.parametrize("step", STEPS)
def test_steps_start_with_few_imports(step: str, tmp_path: Path) -> None:
    """Each step, and each function of it in a sandbox, is a process that imports its module again."""
    run(
        f"import sys\nimport ims.runtime.local.entrypoint, ims.sandbox.inside, ims.steps.{step}\n"
        f"found = set(sys.modules) & {HEAVY!r}\nassert found <= {NEEDED.get(step, set())!r}, found",
        tmp_path,
    )


def test_sandbox_starts_with_few_imports(tmp_path: Path) -> None:
    """The program that makes a sandbox only uses the standard library."""
    run(f"import sys, ims.sandbox.box\nassert not set(sys.modules) & {HEAVY | {'pydantic'}!r}", tmp_path)


def test_steps_are_named_like_their_modules(tmp_path: Path) -> None:
    """A task finds its step by the name of the module."""
    assert "build_image" in STEPS
    checks = [f"assert load_step({name!r}).name == {name!r}" for name in STEPS]
    run("\n".join(["from ims.steps.step import load_step", *checks]), tmp_path)


@pytest.mark.parametrize("program", FENCED_PROGRAMS)
def test_program_is_started_in_its_room(program: str) -> None:
    """Only one part contains the name of the program as a word of a command line; `ims doctor` looks for some."""
    rooms = {part_of(path) for path in MODULES if program in strings(path)}
    assert rooms - {"doctor"} <= {FENCED_PROGRAMS[program]}


def strings(path: Path) -> set[str]:
    """All string constants of a module."""
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_fenced_programs_are_found() -> None:
    """The search of the previous test finds the programs where they are started."""
    found = set().union(*(strings(path) for path in MODULES if part_of(path) == "sandbox"))
    assert {"unshare", "chroot", "mount"} <= found


def test_modules_and_packages_are_small() -> None:
    """A module that grows past the limit is split, or gets an entry in LARGE that says why."""
    sizes = {path: len(path.read_text().splitlines()) for path in MODULES}
    packages = Counter(path.parent for path in MODULES)
    large = [path for path, lines in sizes.items() if lines > MAX_LINES]
    large += [path for path, modules in packages.items() if modules > MAX_MODULES]
    assert {str(path.relative_to(ROOT)) for path in large} == set(LARGE)
