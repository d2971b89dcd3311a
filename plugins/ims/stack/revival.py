"""`python -m ims.stack.revival PROGRAM…`: starts programs again that supervisord has given up on.

supervisord gives up on a program that ends too fast a few times in a row, as a database does while the disk is full.
This program is an event listener of supervisord, which calls it at regular intervals.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Any
from xmlrpc.client import Fault

from supervisor import childutils

EVENT = "TICK_5"
"""The event of supervisord that occurs every five seconds."""


def revive(supervisor: Any, programs: Collection[str]) -> None:
    """Start those programs whose state is FATAL."""
    for process in supervisor.getAllProcessInfo():
        if process["name"] in programs and process["statename"] == "FATAL":
            try:
                supervisor.startProcess(process["name"], False)
            except Fault as error:
                print(f"{process['name']} does not start: {error.faultString}", file=sys.stderr)


def main(programs: Collection[str]) -> None:
    """Answer the events of supervisord until it ends."""
    while True:
        childutils.listener.wait(sys.stdin, sys.stdout)
        revive(childutils.getRPCInterface(os.environ).supervisor, programs)
        childutils.listener.ok(sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
