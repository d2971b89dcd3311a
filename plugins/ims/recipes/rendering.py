"""The program that renders templates: `python -m ims.recipes.rendering`. `ims.recipes.template` starts it.

It reads a request from standard input and writes the answer to standard output, both as JSON. It limits its own time
and memory: a template can compute forever.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment


def main() -> None:
    """Answer a request."""
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"]))
    json.dump(_answer(request), sys.stdout)


def _answer(request: Mapping[str, Any]) -> dict[str, object]:
    rendered: dict[str, str] = {}
    room = request["characters"]
    for name, text in request["templates"].items():
        try:
            rendered[name] = _render(text, request["variables"], room)
            room -= len(rendered[name])
        except _TooLongError:
            reason = f"the rendered templates have more than {request['characters']} characters"
            return {"failed": name, "reason": reason}
        except MemoryError:
            return {"failed": name, "reason": f"it needs more than {request['memory']} bytes of memory"}
        except Exception as error:  # a template can raise anything
            return {"failed": name, "reason": str(error) or type(error).__name__}
    return {"rendered": rendered}


class _TooLongError(Exception):
    """The result has too many characters."""


def _render(text: str, variables: Mapping[str, str], room: int) -> str:
    """Render a template. Raises _TooLongError if the result has more than `room` characters."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    parts = []
    for part in environment.from_string(text).generate(dict(variables)):
        room -= len(part)
        if room < 0:
            raise _TooLongError
        parts.append(part)
    return "".join(parts)


if __name__ == "__main__":
    main()
