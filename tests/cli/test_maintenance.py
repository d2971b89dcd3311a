"""`ims maintenance` against a running stack."""

from __future__ import annotations

from uuid import uuid4

from tests.api.records import IMAGES_BUCKET, put
from tests.api.test_deleted import exists
from tests.cli.conftest import Cli
from tests.service import Service


def test_maintenance(cli: Cli, service: Service) -> None:
    """A dry run shows orphaned objects, and the command deletes them unless they are young."""
    orphan = put(service, f"s3://{IMAGES_BUCKET}/{uuid4()}/rootfs")
    young = cli.json("maintenance", "--dry-run")
    assert orphan not in [item for kind in young for item in kind["items"]]
    shown = cli.json("maintenance", "--dry-run", "--orphan-hours", "0")
    assert [kind["kind"] for kind in shown if orphan in kind["items"]] == ["objects"]
    assert exists(service, orphan)
    table = cli.ok("maintenance", "--orphan-hours", "0")
    assert table.splitlines()[0].split() == ["KIND", "COUNT", "BYTES"]
    assert not exists(service, orphan)


def test_invalid_age(offline: Cli) -> None:
    """A negative age is refused."""
    assert "orphan-hours" in offline.refused("maintenance", "--orphan-hours", "-1")
