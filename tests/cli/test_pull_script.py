"""The script in docs/create-an-image.md that downloads what changed with curl."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ims.storage.delta import Delta, DeltaBase, Range
from ims.storage.digests import digest_file
from ims.storage.manifest import KERNEL, ROOTFS, Artifact, Link, write_manifest

pytestmark = pytest.mark.system

PAGE = Path(__file__).parents[2] / "docs" / "create-an-image.md"
OLD = bytes(range(256)) * 400
NEW = b"head" + OLD[4:60_000] + b"layer" + OLD[70_000:80_000] + b"tail"
RANGES = [
    Range(offset=4, length=59_996, source_offset=4),
    Range(offset=60_005, length=10_000, source_offset=70_000),
]


class Server(ThreadingHTTPServer):
    """Answers range requests for the new rootfs, and notes them."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    """Sends a range, or everything to who forgets to ask for one."""

    server: Server

    def do_GET(self) -> None:
        """Answer."""
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        start, end = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or f"bytes=0-{len(NEW)}").groups()  # type: ignore[union-attr]
        body = NEW if self.path == "/whole" else NEW[int(start) : int(end) + 1]
        self.send_response(200 if self.path == "/whole" else 206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class Node:
    """A folder with the old rootfs, the manifest of the new one, and the script."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self._server = folder, server
        (script,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
        (folder / "pull-changes").write_text(script)
        (folder / "old").write_bytes(OLD)
        (folder / "expected").write_bytes(NEW)
        self.describe(RANGES)

    def describe(self, ranges: list[Range]) -> None:
        """Write the manifest."""
        old, new = digest_file(self.folder / "old"), digest_file(self.folder / "expected")
        base = DeltaBase(path="s3://boot-images/1/rootfs", md5=old.md5, size=old.size, ranges=ranges)
        delta, link = Delta(size=new.size, bases=[base]), Link(path="s3://boot-images/2/rootfs")
        kernel, rootfs = Artifact(type=KERNEL, link=link), Artifact(type=ROOTFS, md5=new.md5, link=link, delta=delta)
        (self.folder / "manifest.yaml").write_text(write_manifest([kernel, rootfs]))

    def edit(self, **fields: Any) -> None:
        """Change the first range in the manifest to what the service would refuse."""
        document = json.loads((self.folder / "manifest.yaml").read_text())
        document["artifacts"][1]["delta"]["bases"][0]["ranges"][0].update(fields)
        (self.folder / "manifest.yaml").write_text(json.dumps(document))

    def run(self, path: str = "new") -> subprocess.CompletedProcess[str]:
        """Run the script, with the simplest shell."""
        url = f"http://127.0.0.1:{self._server.server_port}/{path}"
        return subprocess.run(
            ["dash", "pull-changes", "manifest.yaml", "old", "new", url],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def refuse(self, path: str = "new") -> str:
        """Run the script, which must fail and leave nothing; returns its error."""
        done = self.run(path)
        assert done.returncode != 0
        assert {file.name for file in self.folder.iterdir()} == {"old", "expected", "manifest.yaml", "pull-changes"}
        return done.stderr


@pytest.fixture
def node(tmp_path: Path, server: Server) -> Node:
    """A node with the old rootfs."""
    return Node(tmp_path, server)


def test_only_the_rest_is_downloaded(node: Node, server: Server) -> None:
    """The script asks for what the old rootfs has not, and gives the new one."""
    done = node.run()
    assert done.returncode == 0, done.stderr
    assert (node.folder / "new").read_bytes() == NEW
    assert server.asked == ["bytes=0-3", "bytes=60000-60004", f"bytes=70005-{len(NEW) - 1}"]
    assert not (node.folder / "new.partial").exists()


def test_wrong_base(node: Node, server: Server) -> None:
    """Another rootfs is refused before anything is downloaded."""
    (node.folder / "old").write_bytes(OLD[:-1])
    assert "the old rootfs is no base of the new one" in node.refuse()
    assert server.asked == []


def test_wrong_ranges(node: Node) -> None:
    """The result is verified as a whole."""
    node.describe([RANGES[0].model_copy(update={"source_offset": 5})])
    assert "another MD5 than the manifest says" in node.refuse()


@pytest.mark.parametrize("value", ["a[$(touch hit)]", "1; touch hit", -5, 1e30, None, [1]], ids=str)
@pytest.mark.parametrize("field", ["offset", "length", "source_offset"])
def test_hostile_manifest(node: Node, field: str, value: Any) -> None:
    """Whatever stands in place of a number, nothing runs, and a file is the right one or missing."""
    node.edit(**{field: value})
    done = node.run()
    assert not list(node.folder.glob("hit*"))
    assert (node.folder / "new").exists() == (done.returncode == 0)
    assert done.returncode != 0 or (node.folder / "new").read_bytes() == NEW


def test_server_without_ranges(node: Node) -> None:
    """An answer with the whole rootfs in place of a range is refused."""
    assert "Maximum file size exceeded" in node.refuse("whole")
