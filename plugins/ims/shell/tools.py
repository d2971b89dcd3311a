"""Programs that every session needs, for images that lack them: copies of the host's programs and their libraries."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from ims.errors import ConfigurationError
from ims.shell import package_managers, paths

BASH = Path("/usr/bin/bash")
PROGRAMS = (Path("/usr/bin/rsync"), Path("/usr/bin/scp"), Path("/usr/lib/openssh/sftp-server"))
_LIBRARY = re.compile(r"(?:=> )?(?P<path>/\S+) \(0x")

_LIB, _LIBEXEC = paths.TOOLS / "lib", paths.TOOLS / "libexec"
_RUN = f"exec {_LIB}/ld.so --inhibit-cache --library-path {_LIB} {_LIBEXEC}"
# The image's /bin/sh runs this. PATH has the image's own programs first.
_WRAPPER = """\
#!/bin/sh
{run}/{name} "$@"
"""

_ENTER = f"""\
#!/bin/sh
# The first program of a session: runs the command of the ssh client, or a login shell.
cd "$HOME" 2>/dev/null || cd /
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then
    command=$SSH_ORIGINAL_COMMAND
    unset SSH_ORIGINAL_COMMAND
    exec /bin/sh -c "$command"
fi
if [ -t 1 ]; then
    echo "The image is $IMS_IMAGE_ROOT. Finish with: touch $IMS_MARKERS/complete"
    echo "Give up, leaving no image, with: touch $IMS_MARKERS/failed"
    if [ -f {paths.NOTICE} ]; then while read -r line; do echo "$line"; done < {paths.NOTICE}; fi
fi
if [ -t 0 ]; then
    # Some shells cannot give up a terminal that belongs to a process they cannot see, sshd.
    {_RUN}/{BASH.name} -c 'set -m; "$SHELL" -l'
fi
exec "$SHELL" -l
"""


def install() -> None:
    """Copy the tools that sessions see. Raises ConfigurationError if a program is missing."""
    folder = paths.INSTALLED_TOOLS
    for name in ("bin", "lib", "libexec"):
        (folder / name).mkdir(parents=True)
    for program in (BASH, *PROGRAMS):
        _copy(program, folder)
    for program in PROGRAMS:
        _write_script(folder / "bin" / program.name, _WRAPPER.format(run=_RUN, name=program.name))
    _write_script(folder / paths.ENTER.name, _ENTER)
    _write_script(folder / package_managers.NAME, package_managers.SCRIPT)


def add_script(name: str, text: str) -> Path:
    """Add a script to the tools; returns its path in a session."""
    _write_script(paths.INSTALLED_TOOLS / name, text)
    return paths.TOOLS / name


def _copy(program: Path, folder: Path) -> None:
    if not program.exists():
        raise ConfigurationError(f"there is no {program}", "Install openssh-server, openssh-client and rsync")
    shutil.copy(program, folder / "libexec")
    for library in libraries(program):
        name = "ld.so" if library.name.startswith("ld-linux") else library.name
        shutil.copy(library, folder / "lib" / name)


def libraries(program: Path) -> list[Path]:
    """The dynamic loader and the libraries of one of the host's programs."""
    output = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(found["path"]) for line in output.splitlines() if (found := _LIBRARY.search(line))]


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
