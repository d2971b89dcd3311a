"""What the commands of the stack print."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from ims.errors import ConfigurationError, ImsError
from ims.settings import settings, wrong_settings
from ims.stack.credentials import Credentials

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line of progress."""
    console.print(f"[dim]·[/dim] {text}")


def show_login(credentials: Credentials) -> None:
    """Print the addresses of the UI and the API, and the administrator's password."""
    own = settings()
    console.print(f"\nAirflow  [bold]{own.airflow_url}[/bold]   user [bold]{own.admin_user}[/bold]   ", end="")
    console.print(f"password [bold]{credentials.admin_password}[/bold]")
    console.print(f"API      {own.airflow_url}/apis/ims/v3   logs {own.home}/logs\n")


def exit_code(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; an ImsError or a wrong setting is printed in one line."""
    try:
        command()
    except ImsError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return error.exit_code
    except ValidationError as error:
        for line in wrong_settings(error):
            console.print(f"[bold red]error:[/bold red] {escape(line)}")
        return ConfigurationError.exit_code
    return 0
