"""The commands behind `make up`, `make down` and `make env`."""

from __future__ import annotations

import shlex

import typer

from ims.client import ImsClient
from ims.settings import settings
from ims.stack import lifecycle
from ims.stack.console import say, show_login
from ims.stack.credentials import ensure_credentials
from ims.stack.environment import s3_environment

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def up() -> None:
    """Start S3 and Airflow; return when a job can run."""
    show_login(lifecycle.up(settings(), say))


@app.command()
def down() -> None:
    """Stop everything; the data stay."""
    lifecycle.down(settings())
    say("stopped")


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
