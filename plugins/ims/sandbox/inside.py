"""The program in the box that runs a function for `ims.sandbox.call`: `python -m ims.sandbox.inside NAME DESCRIPTOR`.

Reads the argument of the function from standard input. Writes the result, or the error, to the descriptor.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import get_type_hints

from pydantic_core import to_jsonable_python

from ims import masking
from ims.errors import ImsError, disk_full
from ims.logs import configure_logging
from ims.sandbox.call import write_answer


def main(name: str, descriptor: int) -> int:
    """Run the function; returns an exit code."""
    # Programs that the function starts must not inherit the descriptor, nor read the argument.
    os.set_inheritable(descriptor, False)
    data = sys.stdin.read()
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    configure_logging()
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    model = next(iter(get_type_hints(function).values()))
    argument = model.model_validate_json(data)
    if (workspace := getattr(argument, "workspace", None)) is not None:
        masking.load(workspace.secrets).hide()
    try:
        result = to_jsonable_python(function(argument))
    except ImsError as error:
        write_answer(descriptor, error=error)
        return error.exit_code
    except OSError as error:
        if (full := disk_full(error)) is None:
            raise
        write_answer(descriptor, error=full)
        return full.exit_code
    write_answer(descriptor, result)
    logging.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
