"""Runs a function of this project in a box, because it handles what strangers made or starts their programs.

The caller keeps its rights, and treats the result as if a stranger had written it: it is bounded and must fit the type
that the function declares. The function gets a Pydantic model. Its environment has no credentials.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from ims.errors import ConfigurationError, ImsError, PermanentError, error_of
from ims.masking import masked
from ims.sandbox import box, disk
from ims.sandbox.network import SandboxNetwork
from ims.sandbox.view import View, program_folders

Argument = TypeVar("Argument", bound=BaseModel)
Result = TypeVar("Result")

MAX_RESULT = 4 * 1024 * 1024
"""Bytes of a result."""
MAX_OUTPUT = 256 * 1024 * 1024
"""Characters of output that are passed on."""
LINE_LENGTH = 65536
"""Characters. Longer lines are split."""
MAX_REASON = 2000
"""Characters of an error."""
_VARIABLES = ("HOME", "LANG", "PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "TZ")
_SETTINGS = "IMS_"


class NoSandboxError(ConfigurationError):
    """This machine cannot make the box."""


def call(
    function: Callable[[Argument], Result],
    argument: Argument,
    view: View,
    network: SandboxNetwork | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> Result:
    """Run `function(argument)` in a box that sees `view` and has a network or none; returns its result.

    `function` is defined at the top of a module. Its output becomes output of this process. It gets the settings of
    this process and the variables `environment`, and works in the first writable folder of the view. After `seconds`,
    the box is ended.

    Raises the ImsError that the function raises, PermanentError if its result is invalid, DiskFullError if it fills the
    disk, NoSandboxError if the box cannot be made, and ImsError if it ends otherwise or takes too long.
    """
    reader, writer = os.pipe()
    name = f"{function.__module__}:{function.__qualname__}"
    program = [sys.executable, "-P", "-m", "ims.sandbox.inside", name, str(writer)]
    whole = replace(view, readable=(*view.readable, *program_folders()))
    values = public_environment() | dict(environment or {})
    descriptors = [writer]
    if network is not None:
        whole = replace(whole, network=network.namespace, resolv_conf=network.resolv_conf)
        values |= network.environment
        descriptors.append(network.namespace)
    with subprocess.Popen(
        box.command(whole, program),
        cwd=view.writable[0],
        env=values,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=descriptors,
    ) as process:
        os.close(writer)
        answer = _Reader(reader)
        with (
            disk.limit(view.writable, view.limits.space, process.kill),
            _deadline(process, seconds, function.__name__),
        ):
            last = _talk(process, argument.model_dump_json())
            code = process.wait()
    return _result(function, code, answer.content(), last)


def public_environment() -> dict[str, str]:
    """The variables that programs in a box may know: no credentials, and no proxies, whose URLs may have a login."""
    names = [name for name in os.environ if name in _VARIABLES or name.startswith(_SETTINGS)]
    return {name: os.environ[name] for name in names if name != "IMS_DATABASE_URL"}


@contextmanager
def _deadline(process: subprocess.Popen[str], seconds: float | None, name: str) -> Iterator[None]:
    """Kill a process, which ends in the context, after `seconds`. Raises ImsError if that was necessary."""
    if seconds is None:
        yield
        return
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if is_over.is_set():
        raise ImsError(f"{name} took more than {seconds:g} s", "See its log")


class _Reader(threading.Thread):
    """Reads a pipe until it is closed, so that the writer never waits. Keeps the first bytes."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self._descriptor, self._content = descriptor, b""
        self.start()

    def run(self) -> None:
        """Read to the end."""
        with os.fdopen(self._descriptor, "rb") as file:
            self._content = file.read(MAX_RESULT + 1)
            while file.read(65536):
                pass

    def content(self) -> bytes:
        """What was read."""
        self.join()
        return self._content


def _talk(process: subprocess.Popen[str], data: str) -> str:
    """Send the argument and pass on the output; returns the last line of it."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(data)
        process.stdin.close()
    except BrokenPipeError:
        pass  # the exit code tells more
    passed, last = 0, ""
    while line := masked(process.stdout.readline(LINE_LENGTH)):
        last = line.strip() or last
        passed += len(line)
        if passed <= MAX_OUTPUT:
            sys.stdout.write(line if line.endswith("\n") else f"{line}\n")
            sys.stdout.flush()
    return last


def _result(function: Callable[[Argument], Result], code: int, content: bytes, last: str) -> Result:
    """Returns the result that `inside` wrote. Raises the errors of `call`."""
    name = function.__name__
    try:
        if len(content) > MAX_RESULT:
            raise ValueError("it is too long")
        answer = _Answer.model_validate_json(content) if content else _Answer()
        if answer.error is not None:
            raise error_of(answer.code, answer.error[:MAX_REASON], answer.hint[:MAX_REASON])
        if code == 0:
            return TypeAdapter[Result](get_type_hints(function)["return"]).validate_python(answer.result)
    except (ValidationError, ValueError) as error:
        raise PermanentError(f"{name} gave an invalid result: {str(error)[:MAX_REASON]}") from None
    if code == ConfigurationError.exit_code:
        raise NoSandboxError(last[:MAX_REASON], "Run: ims doctor")
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise ImsError(f"{name} {how} without giving a reason", "See its log")


class _Answer(BaseModel):
    """What `inside` writes: a result, or an error with its hint and the exit code of its class."""

    result: Any = None
    error: str | None = None
    hint: str = ""
    code: int = os.EX_SOFTWARE


def write_answer(descriptor: int, result: Any = None, error: ImsError | None = None) -> None:
    """Write the outcome of a function for `call`."""
    answer: dict[str, Any] = {"result": result}
    if error is not None:
        # The function may know secrets that its caller does not.
        answer = {"error": masked(error.reason), "hint": masked(error.hint), "code": error.exit_code}
    with os.fdopen(descriptor, "w") as file:
        json.dump(answer, file)
