"""`python -m tests.perf.load`: prints the throughput and latency of the API with 100,000 images as Markdown.

Each database is measured in its own process, which starts a whole stack.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import insert, text

from ims.records.database import Database
from ims.records.models import Image, ImageObject
from ims.settings import Settings, settings
from ims.stack import lifecycle, postgres
from tests.installation import installation
from tests.perf.clients import Answer, Request, send_all
from tests.perf.measure import table
from tests.service import Service

IMAGES = 100_000
CLIENTS = 32
MEASURED_SECONDS = 8.0
PATH = "/apis/ims/v3/images"
DATABASES = ("SQLite", "PostgreSQL")
FILES = ("manifest.yaml", "rootfs", "kernel", "initrd", "boot_parameters")

CHANCE = random.Random(1)  # noqa: S311  (not used for secrets)


def main() -> None:
    """Measure with each database and print the table."""
    rows = []
    for database in DATABASES:
        print(f"· {database}", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, "-m", "tests.perf.load", database], stdout=subprocess.PIPE, text=True, check=True
        )
        rows += [line.split("\t") for line in done.stdout.splitlines()]
    head = ["", "", "requests/s", "p50 ms", "p99 ms", "errors"]
    print(f"\n### the API with {IMAGES:,} images, {CLIENTS} clients\n\n{table(head, rows)}")


def measure(database: str) -> None:
    """Print the rows for one database, with tabs between the cells."""
    installation()
    try:
        with records_url(database) as url:
            os.environ["IMS_DATABASE_URL"] = url
            settings.cache_clear()
            ids = fill(settings().records_url)
            service = Service(settings(), lifecycle.up(settings(), lambda text: None))
            try:
                for row in _rows(service, ids):
                    print(database, *row, sep="\t", flush=True)
            finally:
                lifecycle.down(settings())
    finally:
        lifecycle.reset(settings())


@contextmanager
def records_url(database: str) -> Iterator[str]:
    """Yield the URL of an empty database. Starts a PostgreSQL server if that is the database."""
    if database == "SQLite":
        yield ""
        return
    own = Settings(home=installation().home / "records-server")
    postgres.prepare(own)
    process = subprocess.Popen(
        postgres.command(own), user=postgres.USER, extra_groups=[], cwd="/", stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not postgres.is_ready(own) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield postgres.url(own)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def fill(url: str) -> list[str]:
    """Create the images, one minute apart; returns their ids."""
    database = Database(url)
    begin, ids = datetime(2026, 1, 1, tzinfo=UTC), [str(uuid4()) for _ in range(IMAGES)]
    for start in range(0, IMAGES, 5000):
        part = list(enumerate(ids))[start : start + 5000]
        with database.session() as session:
            session.execute(insert(Image), [_image(number, name, begin) for number, name in part])
            session.execute(
                insert(ImageObject),
                [{"image_id": name, "path": f"s3://boot-images/{name}/{file}"} for _, name in part for file in FILES],
            )
    _settle(database)
    return ids


def _settle(database: Database) -> None:
    """Finish the writes that the database has deferred, so that they do not slow down the requests."""
    if database.engine.dialect.name == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
                connection.execute(text(statement))
    database.engine.dispose()


def _image(number: int, identity: str, begin: datetime) -> dict[str, Any]:
    path = f"s3://boot-images/{identity}/manifest.yaml"
    return {
        "id": identity,
        "name": f"compute-{number % 5000}",
        "created": begin + timedelta(minutes=number),
        "arch": "x86_64",
        "link": {"path": path, "type": "s3", "etag": "0123456789abcdef0123456789abcdef"},
        "link_path": path,
        "labels": {"number": str(number), "group": str(number % 100)},
    }


def _rows(service: Service, ids: list[str]) -> Iterator[list[str]]:
    marker = f"load-{uuid4().hex[:8]}"
    cursors = _cursors(service)
    requests: dict[str, Callable[[], Request]] = {
        "GET a page of 100": lambda: Request(f"{PATH}?limit=100&after={CHANCE.choice(cursors)}"),
        "GET one": lambda: Request(f"{PATH}/{CHANCE.choice(ids)}"),
        "GET by name (20 of them)": lambda: Request(f"{PATH}?name=compute-{CHANCE.randrange(5000)}&limit=100"),
        "POST": lambda: Request(PATH, "POST", {"name": marker, "metadata": {"a": "b"}}),
    }
    made = 0
    for name, request in requests.items():
        headers = {"Authorization": service.http.headers["Authorization"]}
        done = send_all(service.settings.airflow_url, headers, request, CLIENTS, MEASURED_SECONDS)
        if name == "POST":
            made = sum(answer.status == 201 for answer in done)
        yield [name, *_summary(done)]
    kept = len(service.http.get(PATH, params={"name": marker}).json())
    assert kept == made, f"{made} images were made, {kept} are there"
    metadata = {"metadata": f"number={IMAGES - 1}"}
    for name, query in {"GET by metadata, alone": metadata, "GET the whole list, alone": {}}.items():
        begin = time.monotonic()
        answer = service.http.get(PATH, params=query, timeout=600)
        took = 1000 * (time.monotonic() - begin)
        assert answer.status_code == 200
        yield [f"{name} ({len(answer.content) / 1e6:.1f} MB)", "", f"{took:.0f}", "", "0"]


def _cursors(service: Service) -> list[str]:
    """Return the cursors at which pages of 1,000 images begin."""
    found, answer = [], service.http.get(PATH, params={"limit": 1000})
    while "next" in answer.links:
        url = httpx.URL(answer.links["next"]["url"])
        found.append(url.params["after"])
        answer = service.http.get(str(url))
    return found[:-1]


def _summary(done: list[Answer]) -> list[str]:
    took = sorted(answer.seconds for answer in done)
    errors = sum(answer.status >= 400 for answer in done)
    half, most = took[len(took) // 2], took[int(len(took) * 0.99)]
    return [f"{len(done) / MEASURED_SECONDS:.0f}", f"{1000 * half:.0f}", f"{1000 * most:.0f}", str(errors)]


if __name__ == "__main__":
    if len(sys.argv) == 2:
        measure(sys.argv[1])
    else:
        main()
        lifecycle.reset(settings())
