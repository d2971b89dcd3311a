"""The main job from end to end: the shipped Debian recipe becomes a registered image."""

from __future__ import annotations

import itertools
import re
import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ims.client import ImsClient
from ims.errors import ImsError
from ims.recipes import archive
from ims.settings import Settings
from ims.stack.credentials import Credentials, write_private
from ims.stack.environment import PROJECT
from ims.stack.host import debian_mirrors
from ims.storage.objects import ObjectName, ObjectStore

RECIPE = PROJECT / "include" / "recipes" / "debian12"
_KIWI_PREFIX = re.compile(r"\[ \w+\s*\]: [\d:]+ \| ")
_ENDED = ("success", "error")


def run(settings: Settings, credentials: Credentials, console: Console) -> None:
    """Build the image and show it. What an earlier run registered is used again. Raises ImsError: the job failed."""
    client = ImsClient(settings.airflow_url, settings.admin_user, credentials.admin_password)
    store = ObjectStore.connect(settings.endpoint_url, credentials.s3_access_key, credentials.s3_secret_key)
    recipe = push_recipe(client, store, settings)
    key = upload_key(client, settings)
    job = client.create(
        "jobs",
        job_type="create",
        artifact_id=recipe["id"],
        public_key_id=key["id"],
        image_root_archive_name="debian12-demo",
    )
    console.print(f"job {job['id']} builds {recipe['name']}: {job['log_url']}\n")
    job = follow(client, job["id"], console)
    if job["status"] != "success":
        raise ImsError(f"the job failed: {job['reason']}", f"Its log: {job['log_url']}")
    show(client, store, job["resultant_image_id"], console)


def push_recipe(client: ImsClient, store: ObjectStore, settings: Settings) -> dict[str, Any]:
    """Pack, upload and register the recipe under its digest, unless that is done already; returns its record."""
    name = ObjectName(settings.recipes_bucket, f"recipes/debian12-{archive.digest(RECIPE)[:16]}/recipe.tar.gz")
    variables = [{"key": key, "value": value} for key, value in debian_mirrors().items()]
    for recipe in client.get("recipes"):
        if recipe["link"] and recipe["link"]["path"] == str(name):
            if recipe["template_dictionary"] != variables:
                recipe = client.update(f"recipes/{recipe['id']}", template_dictionary=variables)
            return dict(recipe)
    with TemporaryDirectory() as folder:
        packed = Path(folder) / "recipe.tar.gz"
        archive.pack(RECIPE, packed)
        stored = store.upload(packed, name, {})
    link = {"type": "s3", "path": str(name), "etag": stored.etag}
    return dict(
        client.create(
            "recipes",
            name="debian12",
            recipe_type="kiwi-ng",
            linux_distribution="debian12",
            link=link,
            template_dictionary=variables,
        )
    )


def upload_key(client: ImsClient, settings: Settings) -> dict[str, Any]:
    """Register the demo's public key, made at the first run; returns its record."""
    path = settings.secrets / "demo_ed25519"
    if not path.exists():
        private = Ed25519PrivateKey.generate()
        text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        write_private(path, text)
        public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        path.with_suffix(".pub").write_text(f"{public} demo\n")
    public = path.with_suffix(".pub").read_text().strip()
    for key in client.get("public-keys"):
        if key["public_key"] == public:
            return dict(key)
    return dict(client.create("public-keys", name="demo", public_key=public))


def follow(client: ImsClient, job_id: str, console: Console) -> dict[str, Any]:
    """Show a job's steps, their times and the last line of the running one's log, until it ended; returns the job."""
    if not console.is_terminal:
        return follow_in_lines(client, job_id, console)
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            job: dict[str, Any] = client.get(f"jobs/{job_id}")
            ended = has_ended(job)
            live.update(progress(job, "" if ended else last_line(client, job)))
            if ended:
                return job
            time.sleep(2)


def follow_in_lines(client: ImsClient, job_id: str, console: Console) -> dict[str, Any]:
    """Print a line whenever a step starts or ends, and now and then what the running one says; returns the job."""
    shown: set[tuple[str, str | None]] = set()
    for count in itertools.count():
        job: dict[str, Any] = client.get(f"jobs/{job_id}")
        for step in job["steps"]:
            if step["state"] in ("running", "success", "failed") and (step["name"], step["state"]) not in shown:
                shown.add((step["name"], step["state"]))
                console.print(f"{step['name']:24} {step['state']:8} {_duration(step) if step['ended'] else ''}")
        if has_ended(job):
            break
        if count % 10 == 9:
            console.print(f"  {last_line(client, job)}", markup=False, soft_wrap=True)
        time.sleep(1)
    return job


def has_ended(job: dict[str, Any]) -> bool:
    """Whether a job and its clean-up have ended."""
    return job["status"] in _ENDED and all(step["ended"] for step in job["steps"])


def progress(job: dict[str, Any], line: str) -> Table:
    """The steps of a job as a table."""
    table = Table.grid(padding=(0, 2))
    for step in job["steps"]:
        table.add_row(step["name"], step["state"] or "", _duration(step))
    table.add_row(f"[bold]{job['status']}[/bold]", "", f"[dim]{line}[/dim]")
    return table


def last_line(client: ImsClient, job: dict[str, Any]) -> str:
    """The last line in the log of the step that runs."""
    running = [step for step in job["steps"] if step["state"] == "running" and "[" not in step["name"]]
    if not running:
        return ""
    step = running[-1]
    answer = client.http.get(
        f"/api/v2/dags/{job['dag_id']}/dagRuns/{job['dag_run_id']}/taskInstances/{step['name']}"
        f"/logs/{step['try_number']}",
        headers={"Accept": "application/json"},
    )
    content = answer.json().get("content", []) if answer.is_success else []
    events = [entry.get("event", "") for entry in content if isinstance(entry, dict)]
    return _KIWI_PREFIX.sub("", str(events[-1]))[:100] if events else ""


def show(client: ImsClient, store: ObjectStore, image_id: str, console: Console) -> None:
    """Print an image's record and manifest."""
    image = client.get(f"images/{image_id}")
    console.print("\n[bold]Image record[/bold]")
    console.print(yaml.safe_dump(image, sort_keys=False), end="", markup=False)
    manifest = yaml.safe_load(store.read_bytes(ObjectName.parse(image["link"]["path"]), limit=1024 * 1024))
    console.print("\n[bold]Manifest[/bold]")
    console.print(yaml.safe_dump(manifest, sort_keys=False), end="", markup=False)


def _duration(step: dict[str, Any]) -> str:
    if not step["started"]:
        return ""
    ended = datetime.fromisoformat(step["ended"]) if step["ended"] else datetime.now().astimezone()
    return f"{(ended - datetime.fromisoformat(step['started'])).total_seconds():6.1f} s"
