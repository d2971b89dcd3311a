"""A service in memory and a store in a folder, for tests of the program that need no stack."""

from __future__ import annotations

import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import typer.main

import ims.cli
import ims.cli.pushing
import ims.cli.s3
from ims.settings import settings
from ims.storage.objects import ObjectName, StoredObject

ROOT = "/apis/ims/v3/"
KINDS = ("recipes", "images", "public-keys", "jobs", "deleted/recipes", "deleted/images", "deleted/public-keys")


_commands = cache(typer.main.get_command)
"""Building all commands takes longer than running one."""


@dataclass
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


@dataclass
class FakeService:
    """Answers the requests of the program from dictionaries and remembers the requests."""

    records: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    answers: dict[str, Any] = field(default_factory=dict)
    """What to return for a path instead of a record: a body, a response, or a function that returns one."""
    requests: list[httpx.Request] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    """The jobs that DELETE cancels."""

    def add(self, kind: str, name: str, **values: Any) -> str:
        """Add a record; returns its id. The time of its creation is later than that of all others."""
        identity = values.pop("id", str(uuid4()))
        records = self.records[kind]
        created = f"2026-11-01T00:00:{len(records):02}+00:00"
        records.append({"id": identity, "name": name, "created": created, "arch": "x86_64", "link": None, **values})
        return str(identity)

    def ids(self, kind: str) -> list[str]:
        """Return the ids of all records of a kind."""
        return [record["id"] for record in self.records[kind]]

    def sent(self, method: str) -> list[Any]:
        """Return the bodies of all requests with this method."""
        return [json.loads(request.content or "null") for request in self.requests if request.method == method]

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a request as the service does."""
        self.requests.append(request)
        path = request.url.path.removeprefix(ROOT)
        if path in self.answers:
            found = self.answers[path]
            found = found(request) if callable(found) else found
            return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)
        kind, _, identity = path.rpartition("/") if path.rpartition("/")[2] in self._all_ids() else (path, "", "")
        if kind not in self.records:
            return httpx.Response(404, json={"title": "Not Found", "detail": f"no {path}"})
        answers = {"GET": self._get, "POST": self._post, "PATCH": self._patch, "DELETE": self._delete}
        return answers[request.method](request, kind, identity)

    def _all_ids(self) -> set[str]:
        return {record["id"] for records in self.records.values() for record in records}

    def _get(self, request: httpx.Request, kind: str, identity: str) -> httpx.Response:
        records = self.records[kind]
        if identity:
            return httpx.Response(200, json=next(record for record in records if record["id"] == identity))
        name = request.url.params.get("name")
        return httpx.Response(200, json=[record for record in records if name in (None, record["name"])])

    def _post(self, request: httpx.Request, kind: str, _identity: str) -> httpx.Response:
        self.add(kind, **{"template_dictionary": [], **json.loads(request.content)})
        return httpx.Response(201, json=self.records[kind][-1])

    def _patch(self, request: httpx.Request, kind: str, identity: str) -> httpx.Response:
        record = next(record for record in self.records[kind] if record["id"] == identity)
        record |= json.loads(request.content)
        return httpx.Response(200, json=record)

    def _delete(self, request: httpx.Request, kind: str, identity: str) -> httpx.Response:
        doomed = [record for record in self.records[kind] if identity in ("", record["id"])]
        if request.url.params.get("dry_run"):
            return httpx.Response(200, json={"would_delete": doomed})
        ended = [record for record in doomed if record["id"] not in self.running]
        self.records[kind] = [record for record in self.records[kind] if record not in ended]
        return httpx.Response(204)


class FakeStore:
    """Keeps uploaded files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def upload(self, path: Path, name: ObjectName, _metadata: dict[str, str]) -> StoredObject:
        """Copy a file."""
        shutil.copy(path, self.folder / name.key.replace("/", "_"))
        return StoredObject(path.stat().st_size, "an-etag", {})


@dataclass
class Program:
    """Runs the program in this process against a service in memory."""

    service: FakeService

    def run(self, *arguments: object) -> Done:
        """Run a command to its end."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
            patch.setattr(sys, "argv", ["ims", *map(str, arguments)])
            patch.setattr(typer.main, "get_command", _commands)
            try:
                code = copy_context().run(ims.cli.main)  # the program keeps the output format in a context variable
            except SystemExit as end:
                code = int(end.code or 0)
        return Done(code, stdout.getvalue(), stderr.getvalue())

    def json(self, *arguments: object) -> Any:
        """Run a command that must succeed; returns the JSON that it prints."""
        done = self.run(*arguments, "--format", "json")
        assert done.code == 0, done
        return json.loads(done.stdout)

    def refused(self, *arguments: object, code: int = 2) -> str:
        """Run a command that must fail; returns its one line of error without `Error: `."""
        done = self.run(*arguments)
        assert (done.code, done.stdout) == (code, ""), done
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("Error: ").rstrip()


def connect_to(service: FakeService, patch: pytest.MonkeyPatch, folder: Path) -> Program:
    """Return a program whose requests go to the service and whose uploads go to the folder.

    It asks no repositories, and assumes that they have all packages.
    """
    settings()  # before the variables change: what a command reads first would stay until the process ends
    for name in ("IMS_CA_CERTIFICATE", "SSL_CERT_FILE"):
        patch.delenv(name, raising=False)
    patch.setenv("IMS_URL", "http://ims.example.com")
    patch.setenv("IMS_TOKEN", "token")
    transport = httpx.MockTransport(service.answer)
    patch.setattr("ims.client.httpx.Client", partial(httpx.Client, transport=transport))
    patch.setattr(ims.cli.s3, "store", lambda _client: FakeStore(folder))
    patch.setattr(ims.cli.pushing, "check_packages", lambda _recipe: None)
    return Program(service)
