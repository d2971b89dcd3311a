"""The task of the maintenance that reads the objects of images in S3."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Context

from ims.connections import api_client, object_store
from ims.errors import ImsError, MissingError, UnavailableError
from ims.operators.base import ImsOperator
from ims.settings import settings
from ims.storage.scrub import OutOfTimeError, Pace, check_buckets, damaged_objects

RUN_SECONDS = 4 * 3600
"""After this time, the task ends. The next maintenance goes on with the images that were not read for longest."""
IMAGE_SECONDS = RUN_SECONDS / 2
"""Reading an image ends after this time, so that others are read as well."""
AGE = timedelta(days=7)
"""An image without damage is read again after this time."""
MAX_DAMAGE = 16000
"""The maximum length of what the record of an image says about its objects."""
_MIB = 1024**2


class ScrubImagesOperator(ImsOperator):
    """Reads the objects of images in S3, and marks the images with missing or damaged ones. It deletes nothing."""

    def perform(self, context: Context) -> dict[str, Any]:
        """Returns how many images were read, and the ids of the damaged ones.

        Raises UnavailableError at the end, with the names, if nothing is known about some images; any ImsError at once
        if S3 does not answer or does not give access to the buckets of the settings.
        """
        rate = settings().scrub_mib * _MIB
        if not rate:
            self.log.info("IMS_SCRUB_MIB is 0: nothing is read")
            return {"read": 0, "damaged": []}
        client, store, buckets = api_client(), object_store(), settings().buckets
        end, found, failed = time.monotonic() + RUN_SECONDS, {}, []
        for image in due(client.get("images"), datetime.now(UTC)):
            seconds = min(IMAGE_SECONDS, end - time.monotonic())
            if seconds <= 0:
                self.log.info("%d s have passed: the next run goes on with image %s", RUN_SECONDS, image["id"])
                break
            try:
                damage = damaged_objects(store, image["link"]["path"], buckets, Pace(rate, seconds))
            except OutOfTimeError as error:
                self._log_skipped(image, error, seconds)
            except ImsError as error:
                check_buckets(store, buckets)  # if S3 or the settings are to blame, the others would fail as well
                self.log.error("image %s (%s) was not checked: %s", image["name"], image["id"], error)
                failed.append(f"{image['name']} ({image['id']}): {error.reason}")
            else:
                if _report(client, image, damage):
                    found[image["id"]] = damage
                    self._log_damage(image, damage)
        damaged = [image_id for image_id, damage in found.items() if damage]
        self.log.info("read %d images, %d are damaged", len(found), len(damaged))
        if failed:
            raise UnavailableError(f"{len(failed)} images were not checked: {'; '.join(failed)}"[:MAX_DAMAGE])
        return {"read": len(found), "damaged": damaged}

    def _log_skipped(self, image: dict[str, Any], error: OutOfTimeError, seconds: float) -> None:
        if seconds < IMAGE_SECONDS:
            self.log.info("too little time is left for image %s (%s): a later run reads it", image["name"], image["id"])
        else:
            self.log.warning("image %s (%s) was not checked: %s", image["name"], image["id"], error)

    def _log_damage(self, image: dict[str, Any], damage: Iterable[str]) -> None:
        for sentence in damage:
            self.log.error("image %s (%s): %s", image["name"], image["id"], sentence)


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
