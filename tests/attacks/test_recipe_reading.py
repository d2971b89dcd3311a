"""Attacks by what a recipe or a playbook contains and names, on what reads it: the parsers, kiwi and the solvers.

The first attacks assume the worst, a parser that executes what it reads: they run in the sandboxes of the product, in
place of the parser.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ims import cache
from ims.builder import package_root
from ims.errors import ImsError
from ims.recipes.description import Description
from ims.recipes.expansion import Expansion
from ims.recipes.network import RecipeNetwork
from ims.recipes.package_request import PackageRequest, Source, UnknownPackagesError
from ims.recipes.reading import ReadArchive, RecipeArchive, RecipeDigests, RenderedRecipe
from ims.sandbox.call import MAX_RESULT, call
from ims.sandbox.limits import Limits, controllers
from ims.sandbox.network import SandboxNetwork
from ims.sandbox.view import View
from ims.settings import settings
from ims.steps import build_image, fetch_recipe, package_prediction, run_script, views
from ims.workspace import Workspace
from tests.flows.rpm_repository import PrivateCA, RepositoryServer

pytestmark = pytest.mark.system

PROJECT = Path(__file__).parents[2]
SECRET = "a secret of the installation"
MEMORY = 200 * 1024**2
URL = "python3 -c 'import urllib.request as r; print(r.urlopen(\"{}\", timeout=5).read())'"
CONNECT = "python3 -c 'import socket; s = socket.socket(socket.{}); s.settimeout(5); s.connect({})'"

# Shell commands that end with an error if the attack fails.
ATTACKS = {
    "accounts": "cat /etc/shadow",
    "secrets": "cat {home}/secrets/planted",
    "secrets through processes": "cat /proc/[0-9]*/root{home}/secrets/planted",
    "secrets after chroot": "chroot /proc/1/root cat {home}/secrets/planted",
    "files of the service": "ls {home}/s3 || ls {home}/postgres || cat {home}/ims.db",
    "other jobs": "ls {home}/workspaces/other",
    "other caches": "ls {home}/cache/packages || ls {home}/cache/roots || ls {home}/cache/images",
    "credentials": "env | grep AWS_",
    "credentials of the step": "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep AWS_",
    "results of steps": "ls {workspace}/run/*",
    "what steps noted": "touch {workspace}/notes/recipe.json",
    "claims": "ln -sf /etc/shadow {workspace}/notes/images.claim",
    "programs": "touch /usr/bin/attacked || mount -o remount,rw /usr",
    "processes": "kill -9 {pid}",
    "loopback": CONNECT.format("AF_INET", '("127.0.0.1", {port})'),
    "loopback by an abstract socket": CONNECT.format("AF_UNIX", '"\\0{abstract}"'),
    "loopback through the proxy": URL.format("http://127.0.0.1:{port}/"),
    "loopback in another spelling": URL.format("http://0x7f.1:{port}/"),
    "metadata service": URL.format("http://169.254.169.254/latest/meta-data/"),
    "a host that the recipe does not name": URL.format("http://192.0.2.7/"),
    "network of the machine": CONNECT.format("AF_INET", '("192.0.2.7", 80)'),
}


class Script(BaseModel):
    """Shell commands by their names."""

    commands: dict[str, str]


class Outcomes(BaseModel):
    """The exit codes and the outputs of commands by their names."""

    codes: dict[str, int]
    outputs: dict[str, str]


def attack(script: Script) -> Outcomes:
    """Run the commands; in the sandbox, in place of a parser."""
    done = {
        name: subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
        for name, command in script.commands.items()
    }
    return Outcomes(
        codes={name: one.returncode for name, one in done.items()},
        outputs={name: one.stdout + one.stderr for name, one in done.items()},
    )


class Taken:
    """Stands in for `call`: the sandbox is that of the product, but an attacker's function runs in it."""

    def __init__(self, function: Callable[[Any], Any], argument: BaseModel | None = None) -> None:
        self.function, self.argument = function, argument
        self.results: list[Any] = []

    def __call__(
        self, _: object, argument: BaseModel, view: View, network: SandboxNetwork | None = None, **options: Any
    ) -> Any:
        """Run the function of the attacker."""
        whole = replace(view, readable=(*view.readable, PROJECT))
        environment = {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
        result = call(self.function, self.argument or argument, whole, network, environment, **options)
        self.results.append(result)
        if self.argument is not None:
            raise ImsError("the attack is over")
        return result


@contextmanager
def listening() -> Iterator[tuple[int, str]]:
    """A port of loopback and the name of an abstract socket. Whoever connects to them is noticed."""
    name = f"ims-attack-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0{name}")
        local.listen()
        yield tcp.getsockname()[1], name
        for one in (tcp, local):
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.accept()


@pytest.fixture
def workspace(tmp_path: Path, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace of a job in an installation that allows no addresses, and whose secrets are planted."""
    home = tmp_path / "home"
    configure(home=home, allowed_networks="", ca_certificate=PrivateCA(tmp_path).certificate)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for name in ("secrets", "s3", "postgres", "workspaces/other", "cache/packages", "cache/roots", "cache/images"):
        (home / name).mkdir(parents=True)
        (home / name / "planted").write_text(SECRET)
    (home / "ims.db").write_text(SECRET)
    found = Workspace(home / "workspaces/job")
    for folder in (found.run, found.notes, found.recipe):
        folder.mkdir(parents=True)
    (found.run / "planted").write_text(SECRET)
    monkeypatch.setattr(fetch_recipe, "download", lambda _store, _path, packed: packed.write_bytes(b""))
    RenderedRecipe(
        expansion=Expansion(file="config.xml", text="<image/>"),
        description=Description("x", "1", "apt", (), ()),
        digests=RecipeDigests(description="", bootstrap_script="", files=""),
        network=RecipeNetwork(access="repositories", urls=[], hosts=[]),
    ).save(found.recipe_summary)
    return found


def request_of(url: str, manager: str = "zypper") -> tuple[PackageRequest, RecipeNetwork]:
    """A request for packages of one repository, and the network of its recipe."""
    index = f"{url}/dists/stable/InRelease" if manager == "apt" else f"{url}/repodata/repomd.xml"
    source = Source(url, index, 0, "stable" if manager == "apt" else None, "main")
    request = PackageRequest(manager, (source,), ("busybox",), frozenset(), False)
    return request, RecipeNetwork(access="repositories", urls=[index], hosts=[])


def read(workspace: Workspace) -> ReadArchive:
    """Read the archive of the recipe, as `fetch_recipe` and `plan_images` do."""
    store: Any = None
    return fetch_recipe.fetch(store, "s3://ims/recipe", {}, workspace, "x86_64")


def solve(_: Workspace) -> None:
    """Predict packages, as `resolve_packages` and `plan_images` do."""
    request, network = request_of("http://192.0.2.8")
    package_prediction.ask_solver(request, cache.folder(cache.INDEXES) / "planned" / "indexes", network)


def split(workspace: Workspace) -> None:
    """Begin to build, as `build_image` does."""
    data = {"lineage": "x", "package_manager": "apt", "ca_package": Path("/nonexistent")}
    build_image.run(build_image.Input(workspace=workspace, **data))


def unpack(workspace: Workspace) -> None:
    """Begin to customize an image with a playbook, as `run_script` does."""
    data = {"rootfs": Path("/nonexistent"), "script": None, "seconds": 60}
    workspace.playbook_archive.touch()
    run_script.run(run_script.Input(workspace=workspace, **data))


BOXES: dict[str, tuple[Any, Callable[[Workspace], Any]]] = {
    "read": (fetch_recipe, read),
    "solve": (package_prediction, solve),
    "split": (build_image, split),
    "unpack": (run_script, unpack),
}


@pytest.mark.parametrize("name", BOXES)
def test_parser_is_taken_over(name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads no secret, reaches no service and changes nothing that a step trusts."""
    module, run = BOXES[name]
    with listening() as (port, abstract):
        values = {"home": settings().home, "workspace": workspace.root, "pid": os.getpid()}
        values |= {"port": port, "abstract": abstract}
        commands = {name: _filled(command, values) for name, command in ATTACKS.items()} | {
            "the attacks run": "id -u && test -e /usr/bin/env"
        }
        taken = Taken(attack, Script(commands=commands))
        monkeypatch.setattr(module, "call", taken)
        before = _files(settings().home)
        with pytest.raises(ImsError, match="the attack is over"):
            run(workspace)
    (outcomes,) = taken.results
    assert outcomes.codes.pop("the attacks run") == 0
    assert {name: outcomes.outputs[name] for name, code in outcomes.codes.items() if code == 0} == {}
    assert SECRET not in str(outcomes.outputs)
    by_step = {workspace.recipe_archive, workspace.playbook_archive, workspace.customization}
    assert _files(settings().home) - before <= by_step


def _filled(command: str, values: dict[str, Any]) -> str:
    for name, value in values.items():
        command = command.replace(f"{{{name}}}", str(value))
    return command


def _files(folder: Path) -> set[Path]:
    """All that is in a folder, except what making any sandbox creates."""
    made = ("run", "shell", "notes", "planned", "indexes")
    return {path for path in folder.rglob("*") if path.name not in made}


def takes_all_memory(_: RecipeArchive) -> ReadArchive:
    """Fill the memory, for example with what an archive unpacks to."""
    raise ImsError(str(len(bytearray(os.urandom(1)) * (8 * MEMORY))))


def never_ends(_: RecipeArchive) -> ReadArchive:
    """Close the output and go on."""
    os.close(1)
    os.close(2)
    time.sleep(600)
    raise ImsError("it ended")


def says_too_much(_: RecipeArchive) -> Any:
    """Return a result that fills the memory of the step."""
    return "x" * (MAX_RESULT + 1)


def says_something_else(_: RecipeArchive) -> Any:
    """Return digests that are paths, and packages that are lists."""
    return {"digest": "../../../../etc/passwd", "templates": [[]], "recipe": {"description": None}}


def says_nothing(_: RecipeArchive) -> Any:
    """End as if all was well."""
    os._exit(0)


HOSTILE: dict[str, tuple[Callable[[RecipeArchive], Any], str]] = {
    "says too much": (says_too_much, "gave an invalid result: it is too long"),
    "says something else": (says_something_else, "gave an invalid result"),
    "says nothing": (says_nothing, "gave an invalid result"),
}


@pytest.mark.parametrize(("function", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_result_of_a_parser_that_was_taken_over(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, function: Callable[[Any], Any], reason: str
) -> None:
    """The step ends with a reason."""
    function.__annotations__["return"] = ReadArchive
    monkeypatch.setattr(fetch_recipe, "call", Taken(function))
    with pytest.raises(ImsError, match=reason):
        read(workspace)


def test_parser_never_ends(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, so that the other recipes of a plan are not held up."""
    monkeypatch.setattr(fetch_recipe, "READ_SECONDS", 5)
    monkeypatch.setattr(fetch_recipe, "call", Taken(never_ends))
    began = time.monotonic()
    with pytest.raises(ImsError, match="never_ends took more than 5 s"):
        read(workspace)
    assert time.monotonic() - began < 60


@pytest.mark.skipif("memory" not in controllers().names, reason="this machine limits no memory")
def test_parser_takes_all_memory(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed at the limit of the sandbox."""
    monkeypatch.setattr(views, "limits", lambda _workspace=None: Limits(memory=MEMORY))
    monkeypatch.setattr(fetch_recipe, "call", Taken(takes_all_memory))
    with pytest.raises(ImsError, match="was killed by signal 9"):
        read(workspace)


@pytest.mark.parametrize("manager", ["apt", "zypper"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "[::1]", "localhost", "169.254.169.254"])
def test_repository_at_a_refused_address(workspace: Workspace, manager: str, host: str) -> None:
    """The solver does not ask on behalf of a recipe what the recipe may not ask."""
    with listening() as (port, _):
        request, network = request_of(f"http://{host}:{port}", manager)
        with pytest.raises(UnknownPackagesError, match="connections refused: "):
            package_prediction.ask_solver(request, workspace.solver / "indexes", network)


@pytest.mark.skipif("memory" not in controllers().names, reason="this machine limits no memory")
def test_index_that_unpacks_to_a_gigabyte(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None], tmp_path: Path
) -> None:
    """The solver is killed at the limit of the sandbox, and the packages count as unknown."""
    configure(allowed_networks="127.0.0.0/8")
    monkeypatch.setattr(views, "limits", lambda _workspace=None: Limits(memory=MEMORY))
    served = tmp_path / "served"
    write_bomb(served)
    with RepositoryServer(served) as server:
        request, network = request_of(server.url)
        with pytest.raises(UnknownPackagesError):
            package_prediction.ask_solver(request, workspace.solver / "indexes", network)
        assert any("primary" in line and line.endswith("200") for line in server.requests)


def write_bomb(folder: Path) -> None:
    """Write an rpm repository with one package, whose name has a gigabyte."""
    (folder / "repodata").mkdir(parents=True)
    size = 1024**3
    path = folder / "repodata/primary.xml.gz"
    begin = b'<metadata xmlns="http://linux.duke.edu/metadata/common" packages="1"><package type="rpm"><name>'
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(size // 1024**2):
            file.write(b"a" * 1024**2)
        file.write(b"</name></package></metadata>")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "repodata/repomd.xml").write_text(
        '<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision><data type="primary">'
        f'<checksum type="sha256">{digest}</checksum><location href="repodata/primary.xml.gz"/>'
        f"<timestamp>1</timestamp><size>{path.stat().st_size}</size></data></repomd>"
    )


def test_name_of_a_program_as_the_package_manager(tmp_path: Path) -> None:
    """A parser that was taken over names a program of the workspace: no step asks it for its version, outside a box."""
    program, trace, description = tmp_path / "zypper", tmp_path / "trace", tmp_path / "recipe-packages"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    description.mkdir()
    package_root.compute_key(description, str(program), "packages", program)
    assert not trace.exists()
