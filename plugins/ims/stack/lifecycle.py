"""Start the stack, wait until it can run a task, and stop it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping

import httpx

from ims import supervisord
from ims.client import ImsClient
from ims.errors import ConfigurationError, ImsError, UnavailableError
from ims.pools import DEFAULT, Pool, pools
from ims.removal import remove
from ims.settings import Settings
from ims.stack import postgres, seaweedfs, starting, supervision
from ims.stack.credentials import Credentials, ensure_ca, ensure_credentials, write_password_file
from ims.stack.environment import process_environment
from ims.storage.objects import ObjectName, ObjectStore
from ims.workflows import DAG_IDS, check_limits

START_SECONDS = 300
LOOK_SECONDS = 3

Say = Callable[[str], None]


def up(settings: Settings, say: Say) -> Credentials:
    """Start the stack unless it runs, wait until it can run a task, and return the credentials of the installation.

    Raises ConfigurationError if this user is not root or a port is in use, UnavailableError if a part does not start.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("the stack builds images, which requires root", "Run it again as root")
    check_limits(settings)
    credentials = prepare_home(settings)
    if supervisord.is_running(settings):
        await_all(settings, credentials, say)
        return credentials
    supervisord.end_orphans(settings)
    check_ports(settings)
    if settings.s3_endpoint_url is None:
        seaweedfs.configure(settings, credentials)
    environment = process_environment(settings, credentials)
    supervision.start(settings, environment)
    try:
        say("preparing the Airflow database")
        wait(settings, "the Airflow database", lambda: postgres.is_ready(settings))
        migrate(settings, environment)
        supervisord.start_all(settings)
        await_all(settings, credentials, say)
    except BaseException:
        down(settings)
        raise
    return credentials


def await_all(settings: Settings, credentials: Credentials, say: Say) -> None:
    """Wait until a task can run. Raises UnavailableError if a part does not start."""
    for what, ready in checks(settings, credentials):
        say(f"waiting for {what}")
        wait(settings, what, ready)
    set_pools(settings, credentials)


def set_pools(settings: Settings, credentials: Credentials) -> None:
    """Create Airflow's pools, or resize them to the settings."""
    with _airflow_client(settings, credentials) as client:
        for pool in pools(settings):
            answer = client.post("/api/v2/pools", json={"name": pool.name, **pool.fields})
            if answer.status_code == httpx.codes.CONFLICT:
                answer = _resize(client, pool)
            answer.raise_for_status()


def _resize(client: httpx.Client, pool: Pool) -> httpx.Response:
    """Change a pool. Airflow expects another key for the name here, and refuses most changes of its own pool."""
    mask = {"update_mask": ["slots", "include_deferred"]} if pool.name == DEFAULT else {}
    return client.patch(f"/api/v2/pools/{pool.name}", params=mask, json={"pool": pool.name, **pool.fields})


def down(settings: Settings) -> None:
    """Stop every process of the stack that runs."""
    supervisord.stop(settings)


def prepare_home(settings: Settings) -> Credentials:
    """Create folders, credentials and the database; returns the credentials."""
    os.umask(0o022)  # PostgreSQL's user must be able to read its programs; secrets have their own modes
    close_home(settings)
    credentials = ensure_credentials(settings)
    write_password_file(settings, credentials)
    ensure_ca(settings)
    postgres.prepare(settings)
    return credentials


def close_home(settings: Settings) -> None:
    """Create the folders of the state, and keep the users of this machine out of it.

    A program with a set-id bit in an image root would otherwise be theirs to run. Only PostgreSQL's group may pass
    through the home, on the way to its own folder.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    shutil.chown(settings.home, group=postgres.group())
    settings.home.chmod(0o710)
    for name in ("airflow", "cache", "logs", "run", "s3", "secrets", "workspaces"):
        folder = settings.home / name
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    if not settings.database_url:
        (settings.home / "ims.db").touch(mode=0o600)
    for database in settings.home.glob("ims.db*"):
        database.chmod(0o600)


def migrate(settings: Settings, environment: Mapping[str, str]) -> None:
    """Migrate Airflow's database to its newest schema. Raises ConfigurationError if that fails."""
    log = settings.home / "logs" / "db-migrate.log"
    command = [str(supervisord.BIN / "airflow"), "db", "migrate"]
    with log.open("wb") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        raise ConfigurationError("the Airflow database could not be prepared", f"See {log}")


def check_ports(settings: Settings) -> None:
    """Raises ConfigurationError if another program uses a port of the stack."""
    ports = {"IMS_PORT": (settings.host, settings.port)}
    if settings.gateway_address is not None:
        ports["IMS_GATEWAY"] = settings.gateway_address
    if settings.s3_endpoint_url is None:
        ports["IMS_S3_PORT"] = settings.host, settings.s3_port
        ports["IMS_S3_INTERNAL_PORT"] = settings.host, settings.s3_internal_port
    for variable, (host, port) in ports.items():
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise ConfigurationError(
                    f"port {port} on {host} cannot be used: {error.strerror}",
                    f"Stop the program that uses it, or set {variable} to another port",
                ) from None


def checks(settings: Settings, credentials: Credentials) -> Iterator[tuple[str, Callable[[], bool]]]:
    """The conditions that must hold before a task can run, in order: what to wait for, and whether it is ready.

    Airflow reports itself healthy too early: its first request below /execution creates that API, which takes longer
    than a task waits for the answer. So the second check sends such a request.
    """
    if settings.s3_endpoint_url is None:
        yield "S3", lambda: _s3_works(settings, credentials)
    client = httpx.Client(base_url=settings.airflow_url, timeout=60)
    yield "the API server", lambda: client.get("/execution/health").status_code == 200
    yield "the records", lambda: client.get("/apis/ims/healthz/ready").status_code == 200
    yield "the scheduler, the DAG processor and the triggerer", lambda: _airflow_healthy(client)
    yield "the workflows", lambda: _workflows_parsed(settings, credentials)
    if settings.gateway:
        yield "the gateway", lambda: client.get(f"http://{settings.gateway}/v3/images?limit=1").status_code == 200


def wait(settings: Settings, what: str, ready: Callable[[], bool]) -> None:
    """Call `ready` until it returns True.

    Raises UnavailableError if that takes longer than START_SECONDS, or if supervisord gives up on a program.
    """
    begin = next_look = time.monotonic()
    while True:
        try:
            if ready():
                return
        except (httpx.TransportError, UnavailableError):
            pass  # not listening yet
        now = time.monotonic()
        dead = []
        if now >= next_look:  # not every time: starting supervisorctl slows down the programs that are starting
            dead, next_look = _dead(settings), now + LOOK_SECONDS
        if dead or now > begin + START_SECONDS:
            raise UnavailableError(
                f"{what} did not start" + (f": {', '.join(dead)} ended" if dead else f" in {START_SECONDS} s"),
                starting.see_logs(settings),
            )
        time.sleep(0.2)


def _dead(settings: Settings) -> list[str]:
    """The programs of the stack that supervisord gave up on. The services of jobs do not count."""
    states = supervisord.states(settings)
    return [part.name for part in supervision.programs(settings) if states.get(part.name) == "FATAL"]


def reset(settings: Settings) -> None:
    """Stop the stack and remove all its data."""
    down(settings)
    remove(settings.home)


def _s3_works(settings: Settings, credentials: Credentials) -> bool:
    """Write an object, read it back and delete it: S3 answers before its volumes are ready."""
    store = ObjectStore.connect(settings.endpoint_url, credentials.s3_access_key, credentials.s3_secret_key, attempts=1)
    probe = ObjectName(settings.recipes_bucket, ".ready")
    try:
        store.write_bytes(probe, b"ready")
        is_ready = store.read_bytes(probe, limit=100) == b"ready"
        store.delete(probe)
        return is_ready
    except ImsError:
        return False


def _airflow_healthy(client: httpx.Client) -> bool:
    health = client.get("/api/v2/monitor/health").json()
    return all(health[part]["status"] == "healthy" for part in ("scheduler", "dag_processor", "triggerer"))


def _workflows_parsed(settings: Settings, credentials: Credentials) -> bool:
    with _airflow_client(settings, credentials) as client:
        for dag_id in DAG_IDS:
            answer = client.get(f"/api/v2/dags/{dag_id}")
            if answer.status_code != 200 or answer.json()["has_import_errors"]:
                return False
    return True


def _airflow_client(settings: Settings, credentials: Credentials) -> httpx.Client:
    """A client of Airflow's API with the rights of the administrator."""
    bearer = ImsClient(settings.airflow_url).token(settings.admin_user, credentials.admin_password)
    return httpx.Client(base_url=settings.airflow_url, headers={"Authorization": f"Bearer {bearer}"}, timeout=60)
