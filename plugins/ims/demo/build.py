"""From the shipped Debian recipe to a registered image."""

from __future__ import annotations

from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from rich.console import Console

from ims.cli import following
from ims.cli.pushing import push_to
from ims.client import ImsClient
from ims.demo.mirrors import debian_mirrors
from ims.files import write_private
from ims.recipes import archive
from ims.settings import Settings
from ims.stack.credentials import Credentials
from ims.stack.environment import PROJECT, s3_environment
from ims.storage.objects import ObjectName, ObjectStore

RECIPE = PROJECT / "include" / "recipes" / "debian12"


def run(settings: Settings, credentials: Credentials, console: Console) -> None:
    """Build the image and show it, reusing what an earlier run registered. Raises ImsError if the job fails."""
    client = ImsClient.login(settings.airflow_url, settings.admin_user, credentials.admin_password)
    keys = s3_environment(settings, credentials)
    store = ObjectStore.connect(settings.endpoint_url, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
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
    job = following.follow(client, job["id"], console, whole_log=False)
    show(client, store, following.result(job), console)


def push_recipe(client: ImsClient, store: ObjectStore, settings: Settings) -> dict[str, Any]:
    """Push the recipe under its digest, unless that is done; returns its record."""
    name = ObjectName(settings.recipes_bucket, f"recipes/debian12-{archive.digest(RECIPE)[:16]}/recipe.tar.gz")
    variables = [{"key": key, "value": value} for key, value in debian_mirrors().items()]
    for recipe in client.get("recipes"):
        if recipe["link"] and recipe["link"]["path"] == str(name):
            if recipe["template_dictionary"] != variables:
                recipe = client.update(f"recipes/{recipe['id']}", template_dictionary=variables)
            return dict(recipe)
    fields = {"name": "debian12", "linux_distribution": "debian12", "template_dictionary": variables}
    return push_to(name, client, store, RECIPE, **fields)


def upload_key(client: ImsClient, settings: Settings) -> dict[str, Any]:
    """Register the public key of the demo, which the first run generates; returns its record."""
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


def show(client: ImsClient, store: ObjectStore, image_id: str, console: Console) -> None:
    """Print the record and the manifest of an image."""
    image = client.get(f"images/{image_id}")
    console.print("\n[bold]Image record[/bold]")
    console.print(yaml.safe_dump(image, sort_keys=False), end="", markup=False)
    manifest = yaml.safe_load(store.read_bytes(ObjectName.parse(image["link"]["path"]), limit=1024 * 1024))
    console.print("\n[bold]Manifest[/bold]")
    console.print(yaml.safe_dump(manifest, sort_keys=False), end="", markup=False)
