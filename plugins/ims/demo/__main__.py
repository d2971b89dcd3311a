"""`python -m ims.demo`: start everything, build the shipped Debian recipe, show its image."""

from __future__ import annotations

import sys

from ims.settings import settings
from ims.stack.console import console, exit_code, say, show_login


def main() -> None:
    """Run the demo. Raises ImsError if the stack does not start or the job fails."""
    # These read the settings, so a wrong one is an error of the command.
    from ims.demo import build
    from ims.stack import lifecycle

    credentials = lifecycle.up(settings(), say)
    build.run(settings(), credentials, console)
    show_login(credentials)


if __name__ == "__main__":
    sys.exit(exit_code(main))
