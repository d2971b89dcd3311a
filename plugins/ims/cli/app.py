"""The command `ims`: its groups, and how everything that goes wrong ends."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from ims.cli import auth, deleted, images, jobs, login, nights, public_keys, recipes
from ims.cli.following import JobFailedError
from ims.cli.options import given, group
from ims.cli.output import FormatOption, clean, show_list, show_record
from ims.errors import ImsError, LoginError, MissingError, UnavailableError

USAGE = 2
"""Also of whatever the service refuses: `cray` ends so."""
DEFECT = os.EX_SOFTWARE
MAINTENANCE_SECONDS = 3600
"""The service looks at every object."""

app = group("ims", "Create and customize bootable images. The words are those of `cray ims`.")
for part in (auth, recipes, images, public_keys, jobs, nights, deleted):
    app.add_typer(part.app)


@app.command()
def version(_format: FormatOption = None) -> None:
    """Show the version of the service."""
    show_record(login.connect().send("GET", "/apis/ims/version").json())


@app.command()
def maintenance(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be freed.")] = False,
    orphan_hours: Annotated[
        int | None, typer.Option(min=0, help="Age of objects that nobody needs, in place of the setting.")
    ] = None,
    _format: FormatOption = None,
) -> None:
    """Free what nobody needs in S3, and delete images that need not stay; show how much that is, in bytes.

    Workspaces, shells and caches are cleaned up where steps run, by the workflow image_maintenance.
    """
    fields = given(dry_run=dry_run, orphan_hours=orphan_hours)
    answer = login.connect().call("POST", "maintenance", json=fields, timeout=MAINTENANCE_SECONDS)
    show_list(answer["freed"], ("kind", "count", "bytes"))


def main() -> int:
    """Run a command; returns the exit code. Whatever goes wrong is one line that says what to do."""
    try:
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who reads has seen enough, as `head`: nothing is to be said, nor written at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except TyperException as error:
        return _fail(_usage(error), USAGE) if error.format_message() else 0
    except ImsError as error:
        return _fail(_said(error), _code(error))
    except Abort:
        return _fail("ended by end of input", USAGE)
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), USAGE)
    except Exception as error:
        return _fail(f"ims has a defect: {type(error).__name__}: {error}. Please report it", DEFECT)


def _code(error: ImsError) -> int:
    if isinstance(error, JobFailedError):
        return 1
    return error.exit_code if isinstance(error, LoginError | UnavailableError) else USAGE


def _said(error: ImsError) -> str:
    """The error and what to do next, where the service does not know that."""
    if error.hint:
        return str(error)
    if isinstance(error, LoginError):
        error.hint = 'Renew IMS_TOKEN: eval "$(make -s env)"' if os.environ.get("IMS_TOKEN") else login.HOW
    elif isinstance(error, MissingError):
        error.hint = "Look for it: ims recipes list, ims images list, ims jobs list"
    return str(error)


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "ims"
    return f"{error.format_message().rstrip('.')}. See {command} --help"


def _fail(text: str, code: int) -> int:
    print(f"Error: {clean(text.strip())}", file=sys.stderr)
    return code
