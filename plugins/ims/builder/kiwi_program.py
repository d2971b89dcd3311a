"""kiwi-ng with another address of the proxy for the script post_bootstrap.sh.

`python -P kiwi_program.py URL ARGUMENTS…`, where URL is that of the proxy for the script. kiwi runs the script between
two calls of the package manager. The address lets the proxy distinguish what the script downloads from packages. This
program imports nothing of the project: scripts would inherit a path on which Python finds it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from kiwi.kiwi import main
from kiwi.system.setup import SystemSetup

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy")
Method = Callable[[SystemSetup], None]


def with_proxy(url: str, method: Method) -> Method:
    """A method that does the same as `method`, but the programs that it starts use the proxy `url` if they use one."""

    def call(setup: SystemSetup) -> None:
        before = dict(os.environ)
        os.environ.update((name, url) for name in before if name.lower() in _PROXIES)
        try:
            method(setup)
        finally:
            os.environ.update(before)

    return call


if __name__ == "__main__":
    SystemSetup.call_post_bootstrap_script = with_proxy(sys.argv.pop(1), SystemSetup.call_post_bootstrap_script)
    main()
