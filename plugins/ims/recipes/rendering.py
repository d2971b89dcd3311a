"""Renders templates in a process of its own, so that a template that computes forever cannot hold its caller.

`render_all` starts the program, which is this module, and sends it the templates as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ims.errors import InputError

PROCESSOR_SECONDS = 10
SECONDS = 60
"""How long the program may take, also if it only waits for a processor."""
MEMORY = 512 * 1024 * 1024
MAX_RENDERED = 16 * 1024 * 1024
"""Characters of all rendered templates together."""
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LANG")


def render_all(templates: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Render templates, given by their names.

    Raises InputError with the name of the template if one is invalid, and if they exceed a limit.
    """
    request = {"templates": dict(templates), "variables": dict(variables), "seconds": PROCESSOR_SECONDS}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps(request),
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _too_expensive(templates) from None
    if done.returncode < 0:
        raise _too_expensive(templates)
    answer = json.loads(done.stdout)
    if "failed" in answer:
        raise InputError(
            f"the template {answer['failed']} cannot be rendered: {answer['reason']}",
            f"The template_dictionary defines: {', '.join(sorted(variables))}",
        )
    return dict(answer["rendered"])


def _too_expensive(templates: Mapping[str, str]) -> InputError:
    return InputError(
        f"the templates ({', '.join(templates)}) cannot be rendered with {PROCESSOR_SECONDS} s of processor time, "
        f"{SECONDS} s and {MEMORY} bytes of memory",
        "Remove loops over large ranges",
    )


def main() -> None:
    """Read a request from the standard input, and write the answer to the standard output."""
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"]))
    rendered: dict[str, str] = {}
    answer: dict[str, object] = {"rendered": rendered}
    room = MAX_RENDERED
    for name, text in request["templates"].items():
        try:
            rendered[name] = _render(text, request["variables"], room)
            room -= len(rendered[name])
        except MemoryError:
            answer = {"failed": name, "reason": f"it needs more than {MEMORY} bytes of memory"}
            break
        except Exception as error:  # a template can raise anything
            answer = {"failed": name, "reason": str(error) or type(error).__name__}
            break
    json.dump(answer, sys.stdout)


def _render(text: str, variables: Mapping[str, str], room: int) -> str:
    """Render a template. Raises ValueError if the result has more than `room` characters."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    parts = []
    for part in environment.from_string(text).generate(dict(variables)):
        room -= len(part)
        if room < 0:
            raise ValueError(f"the rendered templates have more than {MAX_RENDERED} characters")
        parts.append(part)
    return "".join(parts)


if __name__ == "__main__":
    main()
