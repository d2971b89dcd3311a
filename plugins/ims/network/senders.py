"""Who sends a request to the proxy of a build: its package manager, another program, or a script of the recipe.

Plans observe what package managers download, by the indexes of the repositories, and nothing else. The answer serves
plans, not security: a program can pretend to be another.
"""

from __future__ import annotations

import re
from typing import Literal

Sender = Literal["package manager", "program", "script"]
PROGRAMS_ADDRESS = "127.0.0.1"
SCRIPTS_ADDRESS = "127.0.0.2"
"""Scripts of a recipe use the proxy at this address, also for the package managers that they start."""
_PACKAGE_MANAGERS = re.compile(rb"ZYpp |libdnf|librepo/|\w+ APT-HTTP/")
"""How the names begin with which zypper, dnf and microdnf, and apt introduce themselves."""


def sender_of(agent: bytes, address: str) -> Sender:
    """Who sent a request with the header User-Agent `agent`, which may be empty, to the proxy at an address."""
    if address != PROGRAMS_ADDRESS:
        return "script"
    return "package manager" if _PACKAGE_MANAGERS.match(agent) else "program"
