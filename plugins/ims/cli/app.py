"""The program `ims`: its groups of commands, and what it prints for every error."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from ims import __version__
from ims.cli import auth, deleted, images, jobs, login, nights, public_keys, recipes
from ims.cli.following import JobFailedError
from ims.cli.options import given, group
from ims.cli.output import FormatOption, clean, for_people, say, show_list, show_record
from ims.errors import ConfigurationError, ImsError, LoginError, MissingError, UnavailableError

USAGE = 2
"""Also the exit code if the service refuses a request, as in `cray`."""
DEFECT = os.EX_SOFTWARE
MAINTENANCE_SECONDS = 3600
"""The service reads every object, which takes a while."""
AUDIT_COLUMNS = ("created", "who", "action", "kind", "name", "record_id", "changed")

HELP = "Create and customize bootable images. The commands are those of `cray ims`."

app = group("ims", HELP)
for part in (auth, recipes, images, public_keys, jobs, nights, deleted):
    app.add_typer(part.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"ims {__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def root(
    _format: FormatOption = None,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version of this program.", callback=_show_version, is_eager=True),
    ] = False,
) -> None: ...


@app.command()
def version(_format: FormatOption = None) -> None:
    """Show the version of the service."""
    show_record(login.connect().send("GET", "/apis/ims/version").json())


@app.command()
def maintenance(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be freed, and delete nothing.")] = False,
    orphan_hours: Annotated[
        int | None, typer.Option(min=0, help="Minimum age of orphaned objects, in hours. Overrides the setting.")
    ] = None,
    _format: FormatOption = None,
) -> None:
    """Delete orphaned objects in S3 and expired images, and show how many bytes that frees.

    This does not touch workspaces, shells and caches. The workflow image_maintenance sweeps them where steps run.
    """
    fields = given(dry_run=dry_run, orphan_hours=orphan_hours)
    answer = login.connect().call("POST", "maintenance", json=fields, timeout=MAINTENANCE_SECONDS)
    show_list(answer["freed"], ("kind", "count", "bytes"))
    if answer["failed"]:
        raise ImsError(f"some items cannot be removed: {', '.join(answer['failed'])}", "See the log of the API server")


@app.command()
def audit(
    kind: Annotated[
        str | None, typer.Option(help="Only changes of a recipe, image, public key, shell, job or night.")
    ] = None,
    record_id: Annotated[str | None, typer.Option("--id", help="Only changes of the record with this id.")] = None,
    name: Annotated[str | None, typer.Option(help="Only changes of records that had this name at that time.")] = None,
    who: Annotated[str | None, typer.Option(help="Only changes by this user.")] = None,
    action: Annotated[str | None, typer.Option(help="Only create, change, delete, undelete, purge or cancel.")] = None,
    since: Annotated[str | None, typer.Option(help="Only changes since this time, such as 2026-01-31T08:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Only changes before this time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of changes.")] = 100,
    _format: FormatOption = None,
) -> None:
    """Show who changed what, newest first. With `--format json`, also the fields before and after."""
    selected = given(
        kind=kind, record_id=record_id, name=name, who=who, action=action, since=since, until=until, limit=limit
    )
    entries = login.connect().call("GET", "audit", params=selected)
    show_list([_with_changed(entry) for entry in entries] if for_people() else entries, AUDIT_COLUMNS)


def _with_changed(entry: dict[str, Any]) -> dict[str, Any]:
    changed = sorted(entry["after"] or ()) if entry["action"] == "change" else ()
    return {**entry, "changed": ", ".join(changed)}


@app.command()
def doctor(_format: FormatOption = None) -> None:
    """Check this machine, its S3 and its cluster, and show what is missing.

    Run it on the machine of the service, as root, with the variables of the service. The service need not run. The exit
    code is 1 if something is missing; warnings do not count.
    """
    from pydantic import ValidationError

    from ims.doctor.checks import examine  # takes a second to import
    from ims.settings import settings, wrong_settings

    try:
        own = settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(wrong_settings(error)), "Correct it, then run ims doctor again") from None
    findings = list(examine(own))
    show_list(findings, ("check", "status", "value", "next_step"))
    if any(finding["status"] == "missing" for finding in findings):
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="File to write. It must not exist.")],
    _format: FormatOption = None,
) -> None:
    """Back up the records, Airflow's database and the secrets of this machine to a file, while the service runs.

    Run it as root on the machine of the service. The objects in S3 are listed, not copied. The exit code is 1 if one is
    missing.
    """
    from ims.backup.saving import back_up  # takes a second to import
    from ims.settings import settings

    saved = back_up(settings(), target, say)
    missing = [item.address for item in saved.objects if item.size is None]
    for address in missing:
        say(f"{address} is missing in S3")
    say(f"wrote {target}, which lists {len(saved.objects)} objects in S3. It contains secrets: keep it safe")
    if missing:
        raise typer.Exit(1)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.", exists=True, dir_okay=False)],
    check: Annotated[
        bool, typer.Option("--check", help="Only compare the objects in S3 with those that the backup lists.")
    ] = False,
    _format: FormatOption = None,
) -> None:
    """Restore a backup on a machine on which the service has no state yet.

    Run it as root, and put the objects back into S3. Then start the service and check them with `--check`; the exit
    code is 1 if one is missing or differs.
    """
    from ims.backup import restoring  # takes a second to import
    from ims.settings import settings

    if check:
        damaged = [{"object": name, "fault": fault} for name, fault in restoring.damaged_objects(settings(), source)]
        show_list(damaged, ("object", "fault"))
        if damaged:
            raise typer.Exit(1)
        return
    restored = restoring.restore(settings(), source, say)
    say(f"restored the backup of {restored.created:%Y-%m-%d %H:%M} UTC, version {restored.version}")
    say(f"Next: put the objects back into S3, run make up or make install, then ims restore --check {source}")


@app.command()
def downgrade(
    version: Annotated[str, typer.Argument(help="The earlier version, for example 0.4.0.")],
    _format: FormatOption = None,
) -> None:
    """Change the database of records so that an earlier version of the service can use it.

    Write a backup first: what the earlier version does not store is lost. Run it as root on the machine of the service,
    with the current version and while the service is stopped. Then start the earlier version.
    """
    from ims.backup import versions  # takes a second to import
    from ims.settings import settings

    versions.downgrade(settings(), version)
    say(f"version {version} can now use the records. Next: check out that version and start it")


def main() -> int:
    """Run a command; returns the exit code. Prints an error as one line that says what to do next."""
    try:
        code = app(prog_name="ims", standalone_mode=False) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, such as `head`, has read enough. This also silences the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except TyperException as error:
        return _fail(_usage(error), USAGE) if error.format_message() else 0
    except ImsError as error:
        return _fail(_message(error), _code(error))
    except Abort:
        return _fail("the input ended before an answer was given", USAGE)
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), USAGE)
    except Exception as error:
        return _fail(
            f"ims has a defect: {type(error).__name__}: {error}. Report it with the command that you ran", DEFECT
        )


def _code(error: ImsError) -> int:
    if isinstance(error, JobFailedError):
        return 1
    return error.exit_code if isinstance(error, LoginError | UnavailableError) else USAGE


def _message(error: ImsError) -> str:
    """Return the error and what to do next. The service does not know the commands of this program."""
    if error.hint:
        return str(error)
    if isinstance(error, LoginError):
        error.hint = 'Renew IMS_TOKEN: eval "$(make -s env)"' if os.environ.get("IMS_TOKEN") else login.HOW
    elif isinstance(error, MissingError):
        error.hint = "List what exists: ims recipes list, ims images list, ims jobs list"
    return str(error)


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "ims"
    return f"{error.format_message().rstrip('.')}. See {command} --help"


def _fail(text: str, code: int) -> int:
    print(f"Error: {clean(text.strip())}", file=sys.stderr)
    return code
