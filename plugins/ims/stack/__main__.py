"""`python -m ims.stack`: the commands behind `make up`, `make down`, `make env` and `make demo`."""

from __future__ import annotations

import shlex
import sys

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from ims.client import ImsClient
from ims.errors import ImsError
from ims.settings import settings
from ims.stack import demo as demo_module
from ims.stack import lifecycle
from ims.stack.credentials import Credentials, ensure_credentials
from ims.stack.environment import s3_environment

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Tell the user what happens."""
    console.print(f"[dim]·[/dim] {text}")


@app.command()
def up() -> None:
    """Start S3 and Airflow; return when a job can run."""
    show_login(lifecycle.up(settings(), say))


@app.command()
def down() -> None:
    """Stop everything. Data stay."""
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


@app.command()
def demo() -> None:
    """Start everything, build the shipped Debian recipe, show its image."""
    credentials = lifecycle.up(settings(), say)
    demo_module.run(settings(), credentials, console)
    show_login(credentials)


def show_login(credentials: Credentials) -> None:
    """Print where the UI is and how to get in."""
    own = settings()
    console.print(f"\nAirflow  [bold]{own.airflow_url}[/bold]   user [bold]{own.admin_user}[/bold]   ", end="")
    console.print(f"password [bold]{credentials.admin_password}[/bold]")
    console.print(f"API      {own.airflow_url}/apis/ims/v3   logs {own.home}/logs\n")


def main() -> int:
    """Run a command; an error that a user can meet is one line."""
    try:
        app(standalone_mode=False)
    except ImsError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return error.exit_code
    except ValidationError as error:
        for item in error.errors():
            console.print(f"[bold red]error:[/bold red] IMS_{str(item['loc'][0]).upper()}: {item['msg']}")
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main())
