"""Bring the stack up until a task can really run, and down until nothing is left."""

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
from ims.settings import Settings
from ims.stack import postgres, supervision
from ims.stack.credentials import Credentials, ensure_ca, ensure_credentials, write_password_file
from ims.stack.environment import process_environment
from ims.stack.roles import write_roles
from ims.storage.objects import ObjectName, ObjectStore
from ims.workflows import DAG_IDS

START_SECONDS = 300
LOOK_SECONDS = 3
POOL = "nightly"
SECURITY = """\
# Without these keys the filer's own port would take requests from anybody on this machine.
[jwt.signing]
key = "{key}"
[jwt.signing.read]
key = "{key}"
[jwt.filer_signing]
key = "{key}"
[jwt.filer_signing.read]
key = "{key}"
"""

Say = Callable[[str], None]


def up(settings: Settings, say: Say) -> Credentials:
    """Start what does not run, wait until it works, and return the installation's credentials.

    Raises ConfigurationError: not root, or a port is taken. UnavailableError: a part did not get ready in time.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("the stack builds images, which takes root", "Run it again as root")
    credentials = prepare_home(settings)
    if supervisord.is_running(settings):
        await_all(settings, credentials, say)
        return credentials
    check_ports(settings)
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
    """Wait until a task can run. Raises UnavailableError: a part did not get ready in time."""
    for what, ready in checks(settings, credentials):
        say(f"waiting for {what}")
        wait(settings, what, ready)
    set_nightly_pool(settings, credentials)


def set_nightly_pool(settings: Settings, credentials: Credentials) -> None:
    """Make Airflow's pool of nightly builds, or give it the size that is set now. Who waits in it counts."""
    pool = {"description": "Builds of a night", "slots": settings.nightly_parallelism, "include_deferred": True}
    with _airflow_client(settings, credentials) as client:
        answer = client.post("/api/v2/pools", json={"name": POOL, **pool})
        if answer.status_code == httpx.codes.CONFLICT:
            # Airflow wants the whole, and calls the name otherwise here.
            answer = client.patch(f"/api/v2/pools/{POOL}", json={"pool": POOL, **pool})
        answer.raise_for_status()


def down(settings: Settings) -> None:
    """Stop every process of the stack. Nothing running is no error."""
    supervisord.stop(settings)


def prepare_home(settings: Settings) -> Credentials:
    """Folders, credentials and the site's CA."""
    os.umask(0o022)  # PostgreSQL's user has to get to its programs; what is secret has a mode of its own
    for name in ("airflow", "cache", "logs", "run", "s3", "workspaces"):
        (settings.home / name).mkdir(parents=True, exist_ok=True)
    settings.home.chmod(0o755)
    (settings.home / "s3").chmod(0o700)
    credentials = ensure_credentials(settings)
    write_password_file(settings, credentials)
    ensure_ca(settings)
    postgres.prepare(settings)
    security = settings.home / "s3" / "security.toml"
    security.touch(mode=0o600)
    security.write_text(SECURITY.format(key=credentials.filer_key))
    write_roles(settings, credentials)
    return credentials


def migrate(settings: Settings, environment: Mapping[str, str]) -> None:
    """Bring Airflow's database to its newest schema. Raises ConfigurationError: that failed."""
    log = settings.home / "logs" / "db-migrate.log"
    command = [str(supervisord.BIN / "airflow"), "db", "migrate"]
    with log.open("wb") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        raise ConfigurationError("the Airflow database could not be prepared", f"See {log}")


def check_ports(settings: Settings) -> None:
    """Raises ConfigurationError: another program listens where the stack would."""
    ports = {"IMS_PORT": settings.port}
    if settings.s3_endpoint_url is None:
        ports["IMS_S3_PORT"] = settings.s3_port
        ports["IMS_S3_INTERNAL_PORT"] = settings.s3_internal_port
    for variable, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                raise ConfigurationError(
                    f"port {port} on {settings.host} cannot be used: {error.strerror}",
                    f"Stop what uses it, or set {variable} to another port",
                ) from None


def checks(settings: Settings, credentials: Credentials) -> Iterator[tuple[str, Callable[[], bool]]]:
    """What must work before a task can run, in order.

    Airflow reports itself healthy before it is: the first request below /execution builds that API, which takes longer
    than a task waits for it. So it is asked for here.
    """
    if settings.s3_endpoint_url is None:
        yield "S3", lambda: _s3_works(settings, credentials)
    client = httpx.Client(base_url=settings.airflow_url, timeout=60)
    yield "the API server", lambda: client.get("/execution/health").status_code == 200
    yield "the records", lambda: client.get("/apis/ims/healthz/ready").status_code == 200
    yield "the scheduler, the DAG processor and the triggerer", lambda: _airflow_healthy(client)
    yield "the workflows", lambda: _workflows_parsed(settings, credentials)


def wait(settings: Settings, what: str, ready: Callable[[], bool]) -> None:
    """Ask `ready` until it holds.

    Raises UnavailableError: it does not within START_SECONDS, or a program gave up before.
    """
    begin = look = time.monotonic()
    while True:
        try:
            if ready():
                return
        except (httpx.TransportError, UnavailableError):
            pass  # not listening yet: that is what is waited for
        now = time.monotonic()
        dead = []
        if now >= look:  # supervisord is asked by a program, whose start takes from those that are waited for
            dead, look = _dead(settings), now + LOOK_SECONDS
        if dead or now > begin + START_SECONDS:
            raise UnavailableError(
                f"{what} did not start" + (f": {', '.join(dead)} ended" if dead else f" in {START_SECONDS} s"),
                f"See the logs in {settings.home}/logs",
            )
        time.sleep(0.2)


def _dead(settings: Settings) -> list[str]:
    """The programs that gave up. A shell that does not come back is its job's affair."""
    states = supervisord.states(settings)
    return [part.name for part in supervision.programs(settings) if states.get(part.name) == "FATAL"]


def reset(settings: Settings) -> None:
    """Stop the stack and remove all its data."""
    down(settings)
    shutil.rmtree(settings.home, ignore_errors=True)


def _s3_works(settings: Settings, credentials: Credentials) -> bool:
    """S3 answers before its volumes are there, so an object is written and read back."""
    store = ObjectStore.connect(settings.endpoint_url, credentials.s3_access_key, credentials.s3_secret_key, attempts=1)
    probe = ObjectName(settings.recipes_bucket, ".ready")
    try:
        store.write_bytes(probe, b"ready")
        return store.read_bytes(probe, limit=100) == b"ready"
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
    """A client of Airflow's API, as the administrator."""
    bearer = ImsClient(settings.airflow_url).token(settings.admin_user, credentials.admin_password)
    return httpx.Client(base_url=settings.airflow_url, headers={"Authorization": f"Bearer {bearer}"}, timeout=60)
