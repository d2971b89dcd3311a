"""`ims jobs`: what makes images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console

from ims.cli import following
from ims.cli.login import connect
from ims.cli.options import DkmsOption, DryRun, JobId, OnlyName, Truth, given, group, truth
from ims.cli.output import FormatOption, clean, for_people, say, show_list, show_record
from ims.cli.resources import IMAGES, JOBS, PUBLIC_KEYS, RECIPES, remove
from ims.errors import InputError

if TYPE_CHECKING:
    from ims.client import ImsClient

app = group("jobs", "Jobs, which make images.")

JobType = Literal["create", "customize"]

Status = Annotated[list[str] | None, typer.Option("--status", help="Only jobs of this status; repeat it for more.")]
Type = Annotated[JobType | None, typer.Option("--job-type", help="Only jobs of this type.")]
Age = Annotated[str | None, typer.Option(help="Only jobs older than this, as 30m, 12h, 2d or 1w2d.")]


@app.command("list")
def list_jobs(
    status: Status = None,
    job_type: Type = None,
    age: Age = None,
    name: OnlyName = None,
    _format: FormatOption = None,
) -> None:
    """List all jobs."""
    show_list(connect().get("jobs", **given(status=status, job_type=job_type, age=age, name=name)), JOBS.columns)


@app.command()
def describe(identity: JobId, _format: FormatOption = None) -> None:
    """Show one job."""
    client = connect()
    _show(client.get(_path(client, identity)))


@app.command()
def delete(identity: JobId, dry_run: DryRun = False, _format: FormatOption = None) -> None:
    """Forget an ended job; cancel one that runs."""
    client = connect()
    remove(client, _path(client, identity), dry_run)


@app.command()
def deleteall(
    status: Status = None,
    job_type: Type = None,
    age: Age = None,
    dry_run: DryRun = False,
    _format: FormatOption = None,
) -> None:
    """Delete all jobs that the options take, without asking."""
    remove(connect(), "jobs", dry_run, **given(status=status, job_type=job_type, age=age))


@app.command()
def create(
    job_type: Annotated[JobType, typer.Option(help="Build a recipe, or change an image.", show_default=False)],
    image_root_archive_name: Annotated[str, typer.Option(help="Name of the new image.", show_default=False)],
    artifact_id: Annotated[str, typer.Option(help="The recipe or image, by id or name.", show_default=False)],
    public_key_id: Annotated[str, typer.Option(help="Who may log in, by id or name.", show_default=False)],
    enable_debug: Annotated[
        Truth | None, typer.Option(help="Open a shell when the build fails.", case_sensitive=False)
    ] = None,
    build_env_size: Annotated[int | None, typer.Option(help="Space that must be free, in GiB.")] = None,
    job_mem_size: Annotated[int | None, typer.Option(help="Memory of the build, in GiB.")] = None,
    kernel_file_name: Annotated[str | None, typer.Option(help="The kernel in /boot.")] = None,
    initrd_file_name: Annotated[str | None, typer.Option(help="The initrd in /boot.")] = None,
    kernel_parameters_file_name: Annotated[str | None, typer.Option(help="The kernel's parameters in /boot.")] = None,
    require_dkms: DkmsOption = None,
    ssh_containers_name: Annotated[str | None, typer.Option(help="Name of the shell.")] = None,
    ssh_containers_jail: Annotated[
        Truth | None, typer.Option(help="Show the image alone, as /.", case_sensitive=False)
    ] = None,
    lease: Annotated[int | None, typer.Option(help="Seconds until an unfinished shell is closed.")] = None,
    script: Annotated[typer.FileText | None, typer.Option(help="Run this file in the image, without a shell.")] = None,
    playbook: Annotated[str | None, typer.Option(help="Run site.yml of this s3://bucket/key, without a shell.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show what happens; end as the job does.")] = False,
    _format: FormatOption = None,
) -> None:
    """Start a job."""
    client = connect()
    source = RECIPES if job_type == "create" else IMAGES
    job = client.create(
        "jobs",
        job_type=job_type,
        image_root_archive_name=image_root_archive_name,
        artifact_id=source.identify(client, artifact_id),
        public_key_id=PUBLIC_KEYS.identify(client, public_key_id),
        **given(
            enable_debug=truth(enable_debug),
            build_env_size=build_env_size,
            job_mem_size=job_mem_size,
            kernel_file_name=kernel_file_name,
            initrd_file_name=initrd_file_name,
            kernel_parameters_file_name=kernel_parameters_file_name,
            require_dkms=truth(require_dkms),
            ssh_containers=_shells(ssh_containers_name, ssh_containers_jail),
            lease=lease,
            script=script.read() if script is not None else None,
            playbook=playbook,
        ),
    )
    if follow:
        _follow(client, job["id"])
    else:
        _show(job)


@app.command("follow")
def follow_job(identity: JobId, _format: FormatOption = None) -> None:
    """Show what a job does until it ends; print the image's id.

    Exit code 1 if the job failed.
    """
    client = connect()
    _follow(client, JOBS.identify(client, identity))


@app.command()
def logs(
    identity: JobId,
    step: Annotated[str | None, typer.Argument(help="As build_image; all if not given.", show_default=False)] = None,
) -> None:
    """Print what a job's steps say; goes on while the step runs."""
    client = connect()
    path = _path(client, identity)
    job = client.get(path)
    steps = [step] if step else [found["name"] for found in job["steps"] if found["try_number"]]
    for number, name in enumerate(steps):
        if len(steps) > 1:
            print(f"{chr(10) if number else ''}==> {name} <==")
        for line in client.lines(f"{path}/logs/{quote(name, safe='')}", follow=True):
            print(clean(line), flush=True)


@app.command()
def shell(
    identity: JobId,
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run there instead of a shell.", show_default=False)
    ] = None,
    key: Annotated[Path | None, typer.Option("-i", help="The private key; else ssh chooses one.")] = None,
) -> int:
    """Wait until a job's shell is open, and log in with ssh. The exit code is ssh's."""
    from ims.cli import ssh

    client = connect()
    job_id = JOBS.identify(client, identity)
    job = _with_shell(client, job_id)
    code = ssh.run(job, str(client.http.base_url), key, command or ())
    if code == ssh.NOT_CONNECTED:
        say("ssh could not log in: name the private key of the job's public key with -i")
    if not command:
        _after_shell(client, job_id)
    return code


@app.command()
def complete(identity: JobId) -> None:
    """Finish a job's shell: what is there becomes the new image."""
    client = connect()
    _operate(client, JOBS.identify(client, identity), "complete")


@app.command()
def fail(identity: JobId) -> None:
    """Give a job's shell up: the job ends in error, without an image."""
    client = connect()
    _operate(client, JOBS.identify(client, identity), "fail")


@app.command()
def extend(
    identity: JobId,
    seconds: Annotated[int | None, typer.Option(help="From now on; a day if not given.")] = None,
    _format: FormatOption = None,
) -> None:
    """Keep a job's shell open for longer."""
    fields = given(operation="extend", seconds=seconds)
    client = connect()
    show_record(client.create(f"{_path(client, identity)}/shell", **fields))


def _path(client: ImsClient, identity: str) -> str:
    return f"{JOBS.path}/{JOBS.identify(client, identity)}"


def _shells(name: str | None, jail: Truth | None) -> list[dict[str, Any]] | None:
    if name is None and jail is None:
        return None
    return [given(name=name or "customize", jail=truth(jail))]


def _show(job: dict[str, Any]) -> None:
    if not for_people():
        show_record(job)
        return
    show_record({name: value for name, value in job.items() if name != "steps"})
    if job["steps"]:
        print()
        show_list(job["steps"], ("name", "state", "started", "ended"))


def _follow(client: ImsClient, job_id: str) -> None:
    """Follow a job to its end; the image's id goes to standard output, all else to standard error."""
    say(f"job {job_id}")
    try:
        job = following.follow(client, job_id, Console(stderr=True), whole_log=True)
    except KeyboardInterrupt:
        say(f"The job goes on. Follow it again: ims jobs follow {job_id}")
        raise
    if not for_people():
        show_record(job)
    image = following.result(job)
    if for_people():
        print(image)


def _with_shell(client: ImsClient, job_id: str) -> dict[str, Any]:
    """The job when its shell is open. Raises InputError: it never will be."""
    waiting = False
    for job in following.polled(client, job_id):
        if job["status"] == "waiting_on_user" and job["ssh_containers"]:
            return job
        if not waiting:
            say(f"job {job_id} is {job['status']}; waiting for its shell")
            waiting = True
    raise InputError(f"the job {job_id} has ended as {job['status']}", "Start another")


def _after_shell(client: ImsClient, job_id: str) -> None:
    """Ask how the shell is to end, or say how to end it."""
    job = client.get(f"jobs/{job_id}")
    if job["status"] != "waiting_on_user":
        say(f"job {job_id} is {job['status']}. Follow it: ims jobs follow {job_id}")
        return
    if sys.stdin.isatty():
        answer = typer.prompt("Finish? complete, fail, or leave it open", default="leave", err=True)
        if answer in ("complete", "fail"):
            _operate(client, job_id, answer)
            return
    say(f"The shell stays open until {job['ssh_containers'][0]['until']}.")
    say(f"Finish it: ims jobs complete {job_id}. Give it up: ims jobs fail {job_id}")


def _operate(client: ImsClient, job_id: str, operation: str) -> None:
    client.create(f"jobs/{job_id}/shell", operation=operation)
    say(f"Follow it: ims jobs follow {job_id}")
