"""Reading the database of records beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_READERS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="ims-read")
"""Few threads: those that wait for the interpreter's lock slow down the one that has it."""


async def read(
    function: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
) -> Result:
    """Returns what a function returns that waits for the database. It sees the context variables of the caller."""
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(
        _READERS, lambda: context.run(function, *arguments, **named)
    )
