"""`ims jobs`: the jobs that create and customize images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console

from ims.cli import following, shells
from ims.cli.login import connect
from ims.cli.option_groups import with_groups
from ims.cli.options import (
    DkmsOption,
    DryRun,
    JobId,
    OnlyName,
    Truth,
    Yes,
    complete_artifact,
    complete_records,
    given,
    group,
    profile_names,
    truth,
)
from ims.cli.output import FormatOption, clean, for_people, say, show_list, show_record
from ims.cli.resources import DELETION_COLUMNS, IMAGES, JOBS, PUBLIC_KEYS, RECIPES, remove_all, would_delete
from ims.errors import MissingError

if TYPE_CHECKING:
    from ims.client import ImsClient

app = group("jobs", "Manage jobs, which create and customize images.")

JobType = Literal["create", "customize"]
Network = Literal["open", "repositories", "none"]


@dataclass(frozen=True)
class Filter:
    """Which jobs a command lists or deletes."""

    status: Annotated[
        list[str] | None, typer.Option(help="Only jobs with this status. Can be given several times.")
    ] = None
    job_type: Annotated[JobType | None, typer.Option(help="Only jobs of this type.")] = None
    age: Annotated[str | None, typer.Option(help="Only jobs older than this, such as 30m, 12h, 2d or 1w2d.")] = None

    def query(self) -> dict[str, Any]:
        """Return the filter in the form of the API."""
        return given(status=self.status, job_type=self.job_type, age=self.age)


@dataclass(frozen=True)
class JobOptions:
    """The fields of a new job that have a default."""

    enable_debug: Annotated[
        Truth | None, typer.Option(help="Whether to open a shell if the build fails.", case_sensitive=False)
    ] = None
    build_env_size: Annotated[int | None, typer.Option(help="Disk space that must be free, in GiB.")] = None
    job_mem_size: Annotated[int | None, typer.Option(help="Memory for the build, in GiB.")] = None
    kernel_file_name: Annotated[str | None, typer.Option(help="Name of the kernel in /boot.")] = None
    initrd_file_name: Annotated[str | None, typer.Option(help="Name of the initrd in /boot.")] = None
    kernel_parameters_file_name: Annotated[
        str | None, typer.Option(help="Name of the file with the kernel parameters in /boot.")
    ] = None
    require_dkms: DkmsOption = None
    ssh_containers_name: Annotated[str | None, typer.Option(help="Name of the shell.")] = None
    ssh_containers_jail: Annotated[
        Truth | None, typer.Option(help="Whether the shell shows the image root as /.", case_sensitive=False)
    ] = None
    lease: Annotated[int | None, typer.Option(help="Seconds after which an unfinished shell is closed.")] = None
    repository_timeout: Annotated[
        int | None, typer.Option(help="Seconds to wait until every repository of the recipe answers.")
    ] = None
    force: Annotated[
        bool, typer.Option("--force", help="Install all packages again, even if an earlier build did.")
    ] = False
    profiles: Annotated[str | None, typer.Option(help="Profiles of the description to build, separated by commas.")] = (
        None
    )
    network: Annotated[
        Network | None, typer.Option(help="What a shell or script of a customization may reach.", case_sensitive=False)
    ] = None
    pack_in_full: Annotated[
        bool, typer.Option("--pack-in-full", help="Pack the whole rootfs, so that removed files cannot be recovered.")
    ] = False
    script: Annotated[typer.FileText | None, typer.Option(help="Script to run in the image instead of a shell.")] = None
    playbook: Annotated[
        str | None,
        typer.Option(help="Archive s3://bucket/key whose site.yml Ansible applies to the image instead of a shell."),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Return the given fields in the form of the API."""
        return given(
            enable_debug=truth(self.enable_debug),
            build_env_size=self.build_env_size,
            job_mem_size=self.job_mem_size,
            kernel_file_name=self.kernel_file_name,
            initrd_file_name=self.initrd_file_name,
            kernel_parameters_file_name=self.kernel_parameters_file_name,
            require_dkms=truth(self.require_dkms),
            ssh_containers=self._ssh_containers(),
            lease=self.lease,
            repository_timeout=self.repository_timeout,
            force=self.force or None,
            profiles=profile_names(self.profiles),
            network=self.network,
            pack_in_full=self.pack_in_full or None,
            script=self.script.read() if self.script is not None else None,
            playbook=self.playbook,
        )

    def _ssh_containers(self) -> list[dict[str, Any]] | None:
        name, jail = self.ssh_containers_name, self.ssh_containers_jail
        return [given(name=name or "customize", jail=truth(jail))] if name is not None or jail is not None else None


@app.command("list")
@with_groups
def list_jobs(chosen: Filter, name: OnlyName = None, _format: FormatOption = None) -> None:
    """List all jobs."""
    show_list(connect().get("jobs", **chosen.query(), **given(name=name)), JOBS.columns, JOBS.wide)


@app.command()
def describe(identity: JobId, _format: FormatOption = None) -> None:
    """Show one job and its steps."""
    client = connect()
    _show(client.get(_path(client, identity)))


@app.command()
def delete(identity: JobId, dry_run: DryRun = False, _format: FormatOption = None) -> None:
    """Delete a job that has ended. Cancel a job that is running."""
    client = connect()
    path = _path(client, identity)
    if dry_run:
        show_list(would_delete(client, path), DELETION_COLUMNS)
        return
    job = client.get(path)["id"]
    client.delete(path)
    try:
        client.get(path)
    except MissingError:
        say(f"deleted the job {job}")
    else:
        say(f"cancelled the job {job}. To delete it when it has ended: ims jobs delete {job}")


@app.command()
@with_groups
def deleteall(chosen: Filter, dry_run: DryRun = False, yes: Yes = False, _format: FormatOption = None) -> None:
    """Delete all jobs that match the options; cancel those that run. On a terminal, ask before."""
    remove_all(JOBS, dry_run, yes, **chosen.query())


@app.command()
@with_groups
def create(
    job_type: Annotated[
        JobType, typer.Option(help="Create an image from a recipe, or customize an image.", show_default=False)
    ],
    image_root_archive_name: Annotated[str, typer.Option(help="Name of the new image.", show_default=False)],
    artifact_id: Annotated[
        str,
        typer.Option(help="Id or name of the recipe or image.", show_default=False, autocompletion=complete_artifact),
    ],
    public_key_id: Annotated[
        str | None,
        typer.Option(
            help="Id or name of the public key that may log in. Not needed for a customization by script or playbook.",
            autocompletion=complete_records(PUBLIC_KEYS.path),
        ),
    ] = None,
    *,
    options: JobOptions,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the steps and their logs until the job has ended.")
    ] = False,
    _format: FormatOption = None,
) -> None:
    """Start a job.

    With `--follow`, print the id of the image when the job has ended. The exit code is 1 if the job failed.
    """
    client = connect()
    source = RECIPES if job_type == "create" else IMAGES
    job = client.create(
        "jobs",
        job_type=job_type,
        image_root_archive_name=image_root_archive_name,
        artifact_id=source.identify(client, artifact_id),
        **given(public_key_id=PUBLIC_KEYS.identify(client, public_key_id) if public_key_id is not None else None),
        **options.fields(),
    )
    if follow:
        _follow(client, job["id"])
    else:
        _show(job)


@app.command("follow")
def follow_job(identity: JobId, _format: FormatOption = None) -> None:
    """Show the steps of a job and their logs until it has ended, then print the id of the image.

    The exit code is 1 if the job failed.
    """
    client = connect()
    _follow(client, JOBS.identify(client, identity))


@app.command()
def logs(
    identity: JobId,
    step: Annotated[
        str | None, typer.Argument(help="Name of a step, such as build_image. The default is all.", show_default=False)
    ] = None,
) -> None:
    """Print the logs of a job's steps, and continue while a step runs."""
    client = connect()
    path = _path(client, identity)
    job = client.get(path)
    steps = [step] if step else [found["name"] for found in job["steps"] if found["try_number"]]
    for number, name in enumerate(steps):
        if len(steps) > 1:
            print(f"{chr(10) if number else ''}==> {name} <==")
        for line in client.lines(f"{path}/logs/{quote(name, safe='')}", follow=True):
            print(clean(line), flush=True)


shells.add_verbs(app)


def _path(client: ImsClient, identity: str) -> str:
    return f"{JOBS.path}/{JOBS.identify(client, identity)}"


def _show(job: dict[str, Any]) -> None:
    if not for_people():
        show_record(job)
        return
    show_record({name: value for name, value in job.items() if name != "steps"})
    if job["steps"]:
        print()
        show_list(job["steps"], ("name", "state", "started", "ended"))


def _follow(client: ImsClient, job_id: str) -> None:
    """Follow a job until it has ended. Only the id of the image goes to standard output."""
    say(f"job {job_id}")
    try:
        job = following.follow(client, job_id, Console(stderr=True), whole_log=True)
    except KeyboardInterrupt:
        say(f"The job continues. To follow it again: ims jobs follow {job_id}")
        raise
    if not for_people():
        show_record(job)
    image = following.result(job)
    if for_people():
        print(image)
