"""The task of the maintenance that reads the objects of images in S3."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Context

from ims.connections import api_client, object_store
from ims.errors import MissingError
from ims.operators.base import ImsOperator
from ims.settings import settings
from ims.storage.objects import ObjectName
from ims.storage.scrub import Pace, damaged_objects

RUN_SECONDS = 4 * 3600
"""After this time, the task ends. The next maintenance goes on with the images that were not read for longest."""
AGE = timedelta(days=7)
"""An image without damage is not read again before."""
MAX_DAMAGE = 16000
"""The maximum length of what the record of an image says about its objects."""
_MIB = 1024**2


class ScrubImagesOperator(ImsOperator):
    """Reads the objects of images in S3, and marks the images with missing or damaged ones. It deletes nothing."""

    def perform(self, context: Context) -> dict[str, Any]:
        """Returns how many images were read, and the ids of the damaged ones."""
        rate = settings().scrub_mib * _MIB
        if not rate:
            self.log.info("IMS_SCRUB_MIB is 0: nothing is read")
            return {"read": 0, "damaged": []}
        client, pace = api_client(), Pace(rate)
        end, read, damaged = time.monotonic() + RUN_SECONDS, 0, []
        for image in due(client.get("images"), datetime.now(UTC)):
            if time.monotonic() > end:
                self.log.info("time is over; the next run goes on with %s", image["id"])
                break
            found = damaged_objects(object_store(), ObjectName.parse(image["link"]["path"]), settings().buckets, pace)
            if not _report(client, image, found):
                continue
            read += 1
            for sentence in found:
                self.log.error("image %s (%s): %s", image["name"], image["id"], sentence)
            damaged += [image["id"]] if found else []
        self.log.info("read %d images, %d are damaged", read, len(damaged))
        return {"read": read, "damaged": damaged}


def due(images: Iterable[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """The images to read, those that were not read for longest first. Damaged ones may have been repaired."""

    def is_due(image: dict[str, Any]) -> bool:
        if image["scrubbed"] is None or image["damage"]:
            return True
        return datetime.fromisoformat(image["scrubbed"]) < now - AGE

    linked = (image for image in images if image["link"] is not None and is_due(image))
    return sorted(linked, key=lambda image: (image["scrubbed"] or "", image["created"]))


def _report(client: Any, image: dict[str, Any], found: list[str]) -> bool:
    """Store the result in the record. Returns False if the image was deleted meanwhile, with its objects."""
    try:
        client.update(
            f"images/{image['id']}", scrubbed=datetime.now(UTC).isoformat(), damage="; ".join(found)[:MAX_DAMAGE]
        )
    except MissingError:
        return False
    return True
