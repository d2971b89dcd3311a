"""The commands behind `make up`, `make down`, `make env`, `make install` and `make uninstall`."""

from __future__ import annotations

import os
import shlex

import typer

from ims.client import ImsClient
from ims.errors import ConfigurationError
from ims.settings import settings
from ims.stack import lifecycle, units
from ims.stack.console import say, show_login
from ims.stack.credentials import ensure_credentials
from ims.stack.environment import s3_environment
from ims.stack.starting import TARGET, uses_systemd

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def up() -> None:
    """Start S3 and Airflow; return when a job can run."""
    if uses_systemd():
        raise ConfigurationError("systemd runs the service", f"Run systemctl start {TARGET}")
    show_login(lifecycle.up(settings(), say))


@app.command()
def down() -> None:
    """Stop everything; the data stay."""
    if uses_systemd():
        raise ConfigurationError("systemd runs the service", f"Run systemctl stop {TARGET}")
    lifecycle.down(settings())
    say("stopped")


@app.command()
def install() -> None:
    """Let systemd run the service, now and after each boot; return when a job can run."""
    os.environ |= {**units.saved_variables(), **os.environ}
    settings.cache_clear()
    show_login(units.install(settings()))


@app.command()
def uninstall() -> None:
    """Stop the service and remove its units; the data stay."""
    units.uninstall()
    say("removed the units; the data stay")


@app.command(hidden=True)
def prepare() -> None:
    """Prepare the start of the programs. A unit of systemd runs this."""
    units.prepare(settings())


@app.command(hidden=True)
def migrate() -> None:
    """Migrate Airflow's database. A unit of systemd runs this."""
    units.migrate(settings())


@app.command(hidden=True)
def run(name: str) -> None:
    """Replace this process with a program of the stack. The units of systemd run this."""
    units.run(settings(), name)


@app.command(hidden=True)
def ready() -> None:
    """Return when a job can run. A unit of systemd runs this."""
    lifecycle.await_all(settings(), ensure_credentials(settings()), say)


@app.command()
def env() -> None:
    """Print shell exports for the running stack: eval "$(make -s env)"."""
    own = settings()
    credentials = ensure_credentials(own)
    exports = {
        "IMS_URL": f"{own.airflow_url}/apis/ims",
        "IMS_TOKEN": ImsClient(own.airflow_url).token(own.admin_user, credentials.admin_password),
        "AIRFLOW_URL": own.airflow_url,
        **s3_environment(own, credentials),
    }
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(value)}")
