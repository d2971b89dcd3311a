"""The program that renders templates: `python -m ims.recipes.rendering`. `ims.recipes.template` starts it.

It reads a request from standard input and writes the answer to standard output, both as JSON. It limits its own time
and memory: a template can compute forever.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, TemplateNotFound, Undefined
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
    environment = ImmutableSandboxedEnvironment(
        undefined=_NotGiven,
        loader=_RecipeFiles(Path(request["folder"]), request["included"]),
        keep_trailing_newline=True,
        autoescape=False,
    )
    for name, text in request["templates"].items():
        try:
            rendered[name] = _render(environment, text, request["variables"], room)
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


class _NotGiven(Undefined):
    """A variable that the dictionary does not contain: false in a test, and an error everywhere else."""

    __slots__ = ()

    def __str__(self) -> str:
        self._fail_with_undefined_error()

    def __iter__(self) -> Iterator[object]:
        self._fail_with_undefined_error()

    def __len__(self) -> int:
        self._fail_with_undefined_error()

    def __contains__(self, item: object) -> bool:
        return False


class _RecipeFiles(BaseLoader):
    """The files that templates include: those of the recipe, with up to `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder.resolve(), limit

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool]]:
        path = self._folder / template
        # Path.is_file() would raise an error for names that no file can have.
        if not os.path.isfile(path) or not path.resolve().is_relative_to(self._folder):  # noqa: PTH113
            raise TemplateNotFound(template, f"it includes {template!r}, which is not a file of the recipe")
        if path.stat().st_size > self._limit:
            raise ValueError(f"it includes {template!r}, which is larger than {self._limit} bytes")
        return path.read_text(), None, lambda: True


def _render(environment: Environment, text: str, variables: Mapping[str, str], room: int) -> str:
    """Render a template. Raises _TooLongError if the result has more than `room` characters."""
    parts = []
    for part in environment.from_string(text).generate(dict(variables)):
        room -= len(part)
        if room < 0:
            raise _TooLongError
        parts.append(part)
    return "".join(parts)


if __name__ == "__main__":
    main()
