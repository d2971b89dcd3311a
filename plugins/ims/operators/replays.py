"""The tasks of a night that repeat customizations: choosing the images, and making them again, parents first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context

from ims.client import ImsClient
from ims.connections import api_client, object_store
from ims.errors import ImsError, InputError, MissingError, PermanentError
from ims.jobs import job_id, nightly_run_id
from ims.lineage import Lineage
from ims.nights import NightImage, PausedImage, RecipeState
from ims.operators.base import ImsOperator
from ims.operators.failures import count_failures
from ims.replays import customization
from ims.replays.customization import Customization, Environment
from ims.replays.order import (
    UNFINISHED,
    Catalog,
    ImageState,
    due_images,
    obstacle,
    paused_images,
    waits_for_parent,
)
from ims.settings import settings
from ims.steps.fetch_image import cache_key, read_rootfs
from ims.storage.manifest import MAX_BYTES, read_manifest
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.presence import find_damage
from ims.triggers.jobs import JobEndTrigger
from ims.workflows import CUSTOMIZE_IMAGE

FORCED = "the build was forced"


class ChooseImagesOperator(ImsOperator):
    """Chooses the customized images that may be made again. With `recipes`, only those that were made from these."""

    template_fields = (*ImsOperator.template_fields, "recipes")

    def __init__(self, *, recipes: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.recipes = recipes

    def perform(self, _context: Context) -> list[dict[str, Any]]:
        """Returns an `ims.nights.NightImage` for each, parents first."""
        return _dumped(due_images(catalog(api_client()), self.recipes))


class ReplayImagesOperator(ImsOperator):
    """Repeats the customizations of images whose parent or environment changed, parents first.

    `images` is the result of ChooseImagesOperator, `environment` that of the step `describe_builder`. The triggerer
    waits for the jobs, then the task looks for the next images. It keeps its progress as its result, which
    `GET /nights/{id}` shows.
    """

    template_fields = (*ImsOperator.template_fields, "images", "environment", "force")

    def __init__(self, *, images: Any, environment: Any, force: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.images = images
        self.environment = environment
        self.force = force

    def perform(self, context: Context) -> list[dict[str, Any]]:
        """Returns an `ims.nights.NightImage` for each image."""
        return self._advance(context, self.images)

    def resume(self, context: Context, event: Any, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Goes on after a job has ended or was deleted."""
        self.log.info("a job has ended: %s", event)
        return self._advance(context, images)

    def _advance(self, context: Context, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the results at the end. Raises TaskDeferred while jobs run."""
        if self.environment is None:
            raise PermanentError("no customization was repeated: describe_builder failed", "See its log")
        results = [NightImage(**image) for image in images]
        night, environment = str(context["run_id"]), Environment(**self.environment)
        Replays(api_client(), object_store(), night, environment, force=bool(self.force)).advance(results)
        context["ti"].xcom_push("return_value", _dumped(results))
        if running := [str(result.dag_run_id) for result in results if result.outcome == "building"]:
            trigger = JobEndTrigger(CUSTOMIZE_IMAGE.dag_id, running)
            self.defer(trigger=trigger, method_name="resume", kwargs={"images": _dumped(results)})
        return _dumped(results)


class Replays:
    """The customizations that a night repeats."""

    def __init__(
        self, client: ImsClient, store: ObjectStore, night: str, environment: Environment, *, force: bool
    ) -> None:
        self._client = client
        self._store = store
        self._night = night
        self._environment = environment
        self._force = force

    def advance(self, results: list[NightImage]) -> None:
        """Notes how jobs ended, and starts those for which the night has decided about the parents."""
        for result in results:
            if result.outcome == "building":
                self._update(result)
        found, failed = catalog(self._client), self._failed_lineages()
        for result in results:
            if result.outcome == "waiting":
                self._consider(result, results, found, failed)

    def _consider(
        self, result: NightImage, results: list[NightImage], found: Catalog, failed: Mapping[Lineage, str]
    ) -> None:
        """Decides about an image, unless it has to wait for its parent or until fewer jobs run."""
        image = found.images.get(result.source_id)
        if image is None or image.link is None:
            result.outcome, result.reason = "skipped", "it was deleted during the night"
        elif waits_for_parent(image, found, results):
            return
        elif (reason := obstacle(image, found, results, failed)) is not None:
            result.outcome, result.reason = "skipped", reason
        elif sum(other.outcome == "building" for other in results) < settings().nightly_parallelism:
            self._decide(result, image, found)

    def _decide(self, result: NightImage, image: ImageState, found: Catalog) -> None:
        """Starts a job unless S3 still has the image that it would make. One image must not stop the others."""
        newest, parent = found.newest[found.line(image)], found.parent(image)
        assert parent is not None
        result.parent_id = parent.id
        if newest.id != image.id:
            result.outcome, result.why, result.image_id = "unchanged", "there is a newer image of this name", newest.id
            return
        try:
            kept = self._customization(image)
            changed = kept.difference(self._content(parent), self._environment)
            why = changed or self._damage(image) or (FORCED if self._force else "")
            if why:
                result.why = why
                self._start(result, image, parent, kept)
            else:
                result.outcome, result.why, result.image_id = "unchanged", "nothing changed", image.id
                self._client.update(f"images/{image.id}", checked=datetime.now(UTC).isoformat())
        except ImsError as error:
            if not error.permanent:
                raise
            result.outcome, result.reason = "failed", str(error)

    def _start(self, result: NightImage, image: ImageState, parent: ImageState, kept: Customization) -> None:
        fields: dict[str, Any] = kept.parameters.model_dump(exclude_none=True)
        if kept.playbook is not None:
            fields |= {"playbook": str(_object(image, customization.PLAYBOOK)), "playbook_sha256": kept.playbook}
        body = {"job_type": "customize", "artifact_id": parent.id, "image_root_archive_name": image.name, **fields}
        key = {"Idempotency-Key": nightly_run_id(self._night, image.id)}
        job = self._client.call("POST", "jobs", json=body, headers=key)
        result.outcome, result.job_id, result.dag_run_id = "building", job["id"], job["dag_run_id"]

    def _update(self, result: NightImage) -> None:
        """Notes how a job ended, if it has. If the job was deleted, its result is not known."""
        try:
            job = self._client.get(f"jobs/{result.job_id}")
        except MissingError:
            result.outcome, result.reason = "failed", f"the job {result.job_id} was deleted"
            return
        if job["status"] not in ("success", "error"):
            return
        result.outcome = "built" if job["status"] == "success" else "failed"
        result.image_id, result.reason = job["resultant_image_id"], job["reason"]

    def _customization(self, image: ImageState) -> Customization:
        data = self._store.read_bytes(_object(image, customization.NAME), customization.MAX_BYTES)
        return Customization.read(data, str(image.customization_digest))

    def _content(self, parent: ImageState) -> str:
        """Identifies the content of the rootfs of an image."""
        return cache_key(self._store, read_rootfs(self._store, _manifest(parent)))

    def _damage(self, image: ImageState) -> str | None:
        """Why an image is not complete, or None."""
        name = _manifest(image)
        try:
            manifest = read_manifest(self._store.read_bytes(name, MAX_BYTES), name, settings().buckets)
            damage = find_damage(self._store, manifest)
        except (InputError, MissingError) as error:
            damage = error.reason
        return damage and f"the image is not complete: {damage}"

    def _failed_lineages(self) -> Mapping[Lineage, str]:
        """The names of the recipes that this night could not build, by their lineages."""
        night = self._client.get(f"nights/{job_id(self._night)}")
        failed = {recipe["recipe_id"] for recipe in night["recipes"] if recipe["outcome"] == "failed"}
        records = _recipes(self._client) if failed else []
        return {(recipe.name, recipe.arch): recipe.name for recipe in records if recipe.id in failed}


def catalog(client: ImsClient) -> Catalog:
    """All images and recipes, with those that are deleted: images may have been made from them."""
    images, deleted = ([ImageState(**image) for image in client.get(path)] for path in ("images", "deleted/images"))
    return Catalog(images, deleted, _recipes(client))


def end_images(results: Iterable[NightImage]) -> None:
    """Note that the night has ended: images that it has not decided about failed."""
    for result in results:
        if result.outcome in UNFINISHED:
            result.outcome, result.reason = (
                "failed",
                "the night ended before it was decided about: see the log of replay_images",
            )


def count_image_failures(client: ImsClient, results: Iterable[NightImage]) -> list[PausedImage]:
    """Sets the failures of each image to those of its result; returns the images that are paused."""
    counts = {result.source_id: result.failures for result in results}
    return paused_images(count_failures(client, "images", ImageState, counts))


def _recipes(client: ImsClient) -> list[RecipeState]:
    return [RecipeState(**recipe) for path in ("deleted/recipes", "recipes") for recipe in client.get(path)]


def _manifest(image: ImageState) -> ObjectName:
    """The address of the manifest of an image. Raises InputError if it has none in the buckets of this service."""
    return ObjectName.parse((image.link or {}).get("path", ""), settings().buckets)


def _object(image: ImageState, name: str) -> ObjectName:
    return ObjectName(settings().images_bucket, f"{image.id}/{name}")


def _dumped(results: list[NightImage]) -> list[dict[str, Any]]:
    return [result.model_dump(mode="json") for result in results]
