"""`python -m ims.stack`: the commands of `ims.stack.commands`."""

from __future__ import annotations

import sys

from ims.stack.console import exit_code


def run() -> None:
    """Run a command. Modules that it imports read the settings, so a wrong one is an error of the command."""
    from ims.stack.commands import app

    app(standalone_mode=False)


if __name__ == "__main__":
    sys.exit(exit_code(run))
