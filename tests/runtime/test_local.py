"""Steps as processes of this machine: what they see, how they end, what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ims.errors import ConfigurationError, StepFailedError
from ims.runtime.local import fork_server, process
from ims.runtime.local.process import StepProcess
from ims.runtime.local.runtime import LocalRuntime
from ims.sandbox.forking import Channel
from ims.settings import Settings, settings
from ims.steps.step import Step, StepInput
from tests.flows.leftovers import loop_devices

pytestmark = pytest.mark.system

JOB = "11111111-2222-3333-4444-555555555555"
SLEEP = "987654.25"
"""How long the stray processes of these tests sleep; the number identifies them."""

# A step for the tests: it runs the code that is its input.
PROBE = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
from ims import errors
from ims.steps.step import Step, StepInput

class Input(StepInput):
    code: str

def run(step):
    names = {**globals(), "workspace": step.workspace.root}
    exec(step.code, names)
    return names.get("result")

STEP = Step("probe", Input, run)
"""


class ProbeInput(StepInput):
    """The input of the probe, as the runtime needs it."""

    code: str


PLAIN = Step("probe", ProbeInput, lambda step: None)


@dataclass
class Probe:
    """Runs code as a step in the workspace of a job."""

    own: Settings
    process: StepProcess
    workspace: Path
    lines: list[str] = field(default_factory=list)

    def run(self, code: str, credentials: Mapping[str, str] | None = None) -> Any:
        """Run code as a step; returns the value of its variable `result`."""
        data = {"workspace": str(self.workspace), "code": textwrap.dedent(code)}
        return self.process.run(PLAIN, data, "probe-0", self.lines.append, credentials)

    def start(self, code: str) -> threading.Thread:
        """Run code as a step in the background, until it has printed `ready`."""
        self.failures: list[StepFailedError] = []

        def work() -> None:
            try:
                self.run(code)
            except StepFailedError as error:
                self.failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: "ready" in self.lines or not thread.is_alive())
        assert "ready" in self.lines, (self.lines, self.failures)
        return thread


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose programs find the probe among the steps."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "probe.py").write_text(PROBE)
    (folder / "sitecustomize.py").write_text(f"import ims.steps\nims.steps.__path__.append({str(folder)!r})\n")
    path, python = f"{folder}:{Path(process.__file__).parents[3]}", folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


@dataclass
class Server:
    """A fork server and the way to it."""

    program: subprocess.Popen[bytes]
    channel: Channel


@pytest.fixture(scope="module")
def server(python: Path) -> Iterator[Server]:
    """A fork server for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        patch.setattr(fork_server, "channel", None)
        program = fork_server.start(process.step_environment())
        assert fork_server.channel is not None
        found = Server(program, fork_server.channel)
    yield found
    found.channel.requests.close()
    assert program.wait(20) == 0, "the server ends with its last client"


@pytest.fixture(params=["program", "fork"])
def own(
    python: Path,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    configure: Callable[..., None],
    request: pytest.FixtureRequest,
) -> Settings:
    """An installation for one test. Its steps are new programs, or forks of a server."""
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(fork_server, "channel", server.channel if request.param == "fork" else None)
    configure(home=tmp_path / "home")
    return settings()


forked = pytest.mark.parametrize("own", ["fork"], indirect=True)


@pytest.fixture
def probe(own: Settings) -> Probe:
    """A job with an open workspace."""
    return Probe(own, StepProcess(), LocalRuntime().open_workspace(JOB, 1))


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition is true, or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def processes(text: str) -> list[str]:
    """The command lines of this machine that contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


def mounted(folder: Path) -> list[str]:
    """Mount points below a folder."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(str(folder))]


def attached(folder: Path) -> list[str]:
    """The files below a folder that loop devices use."""
    return [name for name in loop_devices() if name.startswith(str(folder))]


# How a step ends


def test_result_and_output(probe: Probe) -> None:
    """The result is what the step returned; every line arrives when it is printed."""
    assert probe.run("print('one\\ntwo'); result = {'a': [1, None]}") == {"a": [1, None]}
    assert probe.lines[:2] == ["one", "two"]
    assert probe.lines[-1].startswith("probe took")


def test_output_may_be_no_utf8(probe: Probe) -> None:
    """Package managers print names in any encoding."""
    probe.run("sys.stdout.buffer.write(b'caf\\xe9 \\xff\\n')")
    assert probe.lines[0].startswith("caf")


FAILURES = {
    "bad input": ("raise errors.InputError('no kernel', 'Add one')", "no kernel. Add one", True),
    "missing": ("raise errors.MissingError('it is gone')", "it is gone", True),
    "configuration": ("raise errors.ConfigurationError('no CA')", "no CA", True),
    "unavailable": ("raise errors.UnavailableError('S3 is away')", "S3 is away", False),
    "other": ("raise errors.ImsError('odd')", "odd", False),
    "a bug": ("1 / 0", "probe ended with exit code 1 without giving a reason. See its log", False),
    "exit": ("sys.stdout.flush(); os._exit(7)", "probe ended with exit code 7 without giving a reason", False),
    "a crash": ("ctypes.string_at(0)", "probe was killed by signal SIGSEGV without giving a reason", False),
}


def test_full_disk_is_the_reason(probe: Probe) -> None:
    """Even if the disk is too full to write the result."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", probe.workspace], check=True)
    try:
        (probe.workspace / "run").mkdir()
        with pytest.raises(StepFailedError, match=r"^No space left on device\. Make room") as caught:
            probe.run("(workspace / 'filler').write_bytes(bytes(100_000))")
        assert caught.value.permanent
    finally:
        subprocess.run(["umount", probe.workspace], check=True)


@pytest.mark.parametrize(("code", "reason", "permanent"), FAILURES.values(), ids=FAILURES)
def test_failure_has_its_reason(probe: Probe, code: str, reason: str, permanent: bool) -> None:
    """It is the step's own reason if it gives one, and says whether another try can help."""
    with pytest.raises(StepFailedError) as caught:
        probe.run(code)
    assert str(caught.value).startswith(reason)
    assert caught.value.permanent is permanent


def test_result_of_an_earlier_try_is_ignored(probe: Probe) -> None:
    """A step that dies before it writes a result has none."""
    probe.run("result = 1")
    with pytest.raises(StepFailedError, match="exit code 7"):
        probe.run("os._exit(7)")


# What a step sees


def test_environment(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step gets the settings and the proxies; it gets nothing of Airflow's and no secret."""
    secret = {
        "AIRFLOW__CORE__FERNET_KEY": "secret",
        "AIRFLOW_CONN_IMS_API": "secret",
        "IMS_DATABASE_URL": "postgresql://user:secret@h/db",
        "IMS_TOKEN": "secret",
        "AWS_ACCESS_KEY_ID": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "SOME_PASSWORD": "secret",
    }
    useful = {"IMS_LOG_LEVEL": "DEBUG", "https_proxy": "http://proxy.example", "TZ": "UTC", "AWS_CA_BUNDLE": "/ca.pem"}
    for name, value in {**secret, **useful}.items():
        monkeypatch.setenv(name, value)
    seen = probe.run("result = dict(os.environ)")
    assert {name: seen.get(name) for name in useful} == useful
    assert {name for name, value in seen.items() if "secret" in value or name.startswith("AIRFLOW")} == set()
    assert seen["IMS_HOME"] == str(probe.own.home)


def test_step_gets_only_its_own_credentials(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts of a recipe run in a step without S3, and no step sees the credentials of the service."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the service")
    code = "result = {name: value for name, value in os.environ.items() if name.startswith('AWS_')}"
    assert probe.run(code, {"AWS_SECRET_ACCESS_KEY": "of the step"}) == {"AWS_SECRET_ACCESS_KEY": "of the step"}
    assert probe.run(code) == {}


def test_state_of_the_installation_is_hidden(probe: Probe) -> None:
    """A step sees no secrets, S3 data, logs, databases or workspaces of other jobs; it sees the caches and its own."""
    home = probe.own.home
    hidden = ["secrets/x", "s3/x", "airflow/x", "logs/x", "run/x", "postgres/x", "workspaces/other/x"]
    shown = ["cache/packages/x", f"workspaces/{JOB}/recipe/x", "site-root-ca.pem"]
    for name in [*hidden, *shown, "ims.db", "ims.db-wal"]:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    code = f"""
        home = Path({str(home)!r})
        result = dict.fromkeys([str(p.relative_to(home)) for p in home.rglob('*') if p.is_file()])
        result |= {{name: (home / name).read_text() for name in result}}
        result["databases"] = (home / "ims.db").read_text() + (home / "ims.db-wal").read_text()
        (workspace / "recipe" / "made").write_text(str(Path.cwd()))
    """
    found = probe.run(code)
    assert found.pop("databases") == ""
    assert set(found) & set(hidden) == set()
    assert {name: found[name] for name in shown} == {name: name for name in shown}
    assert (probe.workspace / "recipe" / "made").read_text() == str(probe.workspace)
    assert (home / "ims.db").read_text() == "ims.db"
    assert mounted(home) == []


def test_other_processes_are_hidden(probe: Probe) -> None:
    """A step can see and signal only processes that it started."""
    seen = probe.run("result = [p.name for p in Path('/proc').iterdir() if p.name.isdigit()]")
    assert seen == ["1"]


def test_input_is_in_no_argument_and_no_file(probe: Probe) -> None:
    """Other users of the machine read arguments; what a step starts cannot read the input of the step."""
    probe.start("print('ready'); marker = 'plan' + 'ted'; time.sleep(600)")
    assert processes(JOB)
    assert not processes("'plan'")
    assert not [path for path in probe.workspace.rglob("*") if path.is_file() and "'plan'" in path.read_text()]
    probe.process.kill()
    assert probe.run("result = subprocess.run(['cat', '/proc/1/fd/0'], capture_output=True, text=True).stdout") == ""


def test_modules_are_not_imported_from_the_workspace(probe: Probe) -> None:
    """A script of the recipe could plant one there for a later step that has credentials."""
    (probe.workspace / "json.py").write_text("raise SystemExit('taken over')")
    assert not probe.run("import json; result = json.__file__").startswith(str(probe.workspace))


# What a step leaves behind

STRAYS = f"""
    Path("root").mkdir(exist_ok=True)
    Path("root/file").write_text("x")
    subprocess.run(["mksquashfs", "root", "disk.squashfs", "-quiet", "-no-progress"], check=True)
    for name in ("covered", "disk"):
        Path(name).mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "covered"], check=True)
    subprocess.run(["mount", "-o", "loop,ro", "disk.squashfs", "disk"], check=True)
    subprocess.Popen(["setsid", "sleep", "{SLEEP}"])
    Path("loop").write_text(" ".join(
        p.read_text().strip() for p in Path("/sys/block").glob("loop*/loop/backing_file")
    ))
    print("ready")
"""
WAITING = STRAYS + f"    time.sleep({SLEEP})\n"


def assert_nothing_left(probe: Probe) -> None:
    """Assert that no process, mount or loop device remains after a moment."""
    wait_until(lambda: not processes(SLEEP) and not processes(str(probe.workspace)) and not attached(probe.workspace))
    assert processes(SLEEP) == []
    assert processes(str(probe.workspace)) == []
    assert attached(probe.workspace) == []
    assert mounted(probe.workspace) == []


def test_nothing_is_left_of_a_step_that_ended(probe: Probe) -> None:
    """The kernel ends the process, the mounts and the loop device that it did not clean up."""
    probe.run(STRAYS)
    assert "disk.squashfs" in (probe.workspace / "loop").read_text()
    assert_nothing_left(probe)


def test_nothing_is_left_of_a_killed_step(probe: Probe) -> None:
    """If the task is cancelled, the step does not report the signal that ended it."""
    thread = probe.start(WAITING)
    assert processes(SLEEP) != []
    probe.process.kill()
    thread.join(20)
    assert [str(error) for error in probe.failures] == [
        "probe was stopped. Its job was cancelled, or its task was ended"
    ]
    assert_nothing_left(probe)


def test_kill_without_a_step_does_nothing(probe: Probe) -> None:
    """A task may be cancelled before its step starts or after it has ended."""
    probe.process.kill()
    probe.run("")
    probe.process.kill()


def test_nothing_is_left_when_the_worker_is_killed(probe: Probe) -> None:
    """The kernel ends a step together with the process that started it."""
    worker = f"""
import json, sys
from ims.runtime.local.process import StepProcess
from ims.steps.step import load_step
data = {{"workspace": {str(probe.workspace)!r}, "code": sys.argv[1]}}
sys.executable = {sys.executable!r}
StepProcess().run(load_step("probe"), data, "probe-0", lambda line: print(line, flush=True))
"""
    command = [sys.executable, "-c", worker, textwrap.dedent(WAITING)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert_nothing_left(probe)


# Forks of the server


def is_in_memory(text: bytes, pid: int) -> bool:
    """Whether a text is in the memory that a process can write."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if rights.startswith("rw"):
                begin, end = (int(number, 16) for number in place.split("-"))
                file.seek(begin)
                if text in file.read(end - begin):
                    return True
    return False


@forked
def test_server_learns_no_secret(probe: Probe, server: Server) -> None:
    """Each later step is a copy of its memory."""
    secret = "sesame-" + "x" * 40
    found = probe.run("result = os.environ['AWS_SECRET_ACCESS_KEY']", {"AWS_SECRET_ACCESS_KEY": secret})
    assert found == secret
    assert is_in_memory(JOB.encode(), server.program.pid), "the title of a request is no secret"
    assert not is_in_memory(secret.encode(), server.program.pid)
    assert probe.run("result = os.environ.get('AWS_SECRET_ACCESS_KEY')") is None


@forked
def test_fork_has_no_further_descriptors(probe: Probe) -> None:
    """With the socket of the server or of its task, a step could start or end others."""
    code = """
        paths = [Path('/proc/self/fd', name) for name in os.listdir('/proc/self/fd')]
        result = {path.name: os.readlink(path) for path in paths if os.path.lexists(path)}
    """
    seen = probe.run(code)
    kinds = {name: target.partition(":")[0] for name, target in seen.items()}
    assert kinds.pop("0") == "/dev/null"
    assert kinds.pop("1") == kinds.pop("2") == "pipe"
    assert list(kinds.values()) == [str(probe.workspace)], "the lock of the workspace"


@forked
def test_nothing_is_left_when_a_forked_worker_is_killed(probe: Probe) -> None:
    """A worker and the tasks that it forks share the server; a step ends with its task."""
    pid = os.fork()
    if pid == 0:
        try:
            probe.run(WAITING)
        finally:
            os._exit(1)
    wait_until(lambda: bool(processes(SLEEP)))
    assert processes(SLEEP) != []
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert_nothing_left(probe)


@forked
def test_step_starts_without_the_server(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server was killed, or ends before it has forked, steps are new programs."""
    made = Channel()
    monkeypatch.setattr(fork_server, "channel", made)
    threading.Timer(0.5, made.server.close).start()
    assert probe.run("result = 1") == 1
    assert probe.run("result = 2") == 2


# Workspaces


def test_closing_ends_running_steps(probe: Probe) -> None:
    """It removes the workspace, and does nothing if there is none."""
    thread = probe.start(WAITING)
    LocalRuntime().close_workspace(JOB)
    assert not probe.workspace.exists()
    thread.join(20)
    assert [error.reason for error in probe.failures] == ["probe was stopped"]
    assert_nothing_left(probe)
    LocalRuntime().close_workspace(JOB)


def test_a_second_try_ends_the_first(probe: Probe) -> None:
    """If Airflow retries the task of a worker that still lives, two steps must not share the workspace."""
    thread = probe.start(WAITING)
    other = Probe(probe.own, StepProcess(), probe.workspace)
    assert other.run("result = 2") == 2
    thread.join(20)
    assert [error.reason for error in probe.failures] == ["probe was stopped"]
    assert_nothing_left(probe)


def test_process_with_a_reused_pid_is_not_killed(probe: Probe) -> None:
    """The kernel may give the PID of a step that has ended to any process."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (probe.workspace / "run" / "probe-0.pid").write_text(str(stranger.pid))
        (probe.workspace / "run" / "other.pid").write_text("nonsense")
        LocalRuntime().close_workspace(JOB)
        assert stranger.poll() is None
        stranger.kill()
    assert not probe.workspace.exists()


def test_opening_makes_an_empty_workspace(probe: Probe) -> None:
    """It removes what an earlier try left."""
    (probe.workspace / "recipe").mkdir()
    assert LocalRuntime().open_workspace(JOB, 1) == probe.workspace
    assert [path.name for path in probe.workspace.iterdir()] == ["run"]
    assert probe.workspace == probe.own.workspaces / JOB


def test_opening_fails_without_enough_space(own: Settings) -> None:
    """The error gives the free space, and no workspace is created."""
    with pytest.raises(
        ConfigurationError, match=rf"needs 1000000 GiB of space, {own.workspaces} has [\d.]+ GiB free"
    ) as caught:
        LocalRuntime().open_workspace(JOB, 1_000_000)
    assert "build_env_size" in caught.value.hint
    assert list(own.workspaces.iterdir()) == []
