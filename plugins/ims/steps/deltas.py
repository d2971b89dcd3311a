"""What a customized image has in common with the image that was customized: for the upload, and for the manifest."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ims.steps.artifacts import Base, PackedArtifact
from ims.steps.origin import Origin, reuse
from ims.storage.delta import MAX_RANGES, Delta, DeltaBase, Range, with_ancestors
from ims.storage.manifest import FILES
from ims.storage.matching import matching_ranges


def use_origin(artifacts: Collection[PackedArtifact], origin: Origin, old_files: Path) -> None:
    """Has S3 copy what did not change, and notes which bytes the rootfs and the list of files share with the old ones.

    `old_files` is the old list, if it was fetched. An old rootfs without a checksum could not be verified, so it is
    left out.
    """
    reuse(artifacts, origin)
    for artifact in artifacts:
        if artifact.base is not None and origin.md5:
            artifact.delta = _of_rootfs(artifact, artifact.base, origin)
        elif artifact.type == FILES and old_files.exists():
            artifact.delta = _of_files(artifact, origin, old_files)


def _of_rootfs(artifact: PackedArtifact, base: Base, origin: Origin) -> Delta:
    """The old data, and the bytes that the new tables share with the old ones."""
    kept = Range(offset=base.head, length=base.kept - base.head, source_offset=base.head)
    shift = base.kept - base.head  # the file has only the head and what follows the old data
    tables = [
        item.model_copy(update={"offset": item.offset + shift})
        for item in matching_ranges(artifact.path, base.path, base.head, base.kept)
    ]
    source = DeltaBase(
        path=base.url,
        etag=base.etag or "",
        md5=origin.md5,
        size=base.path.stat().st_size,
        ranges=[kept, *tables][:MAX_RANGES],
    )
    return with_ancestors(artifact.size, source, origin.delta)


def _of_files(artifact: PackedArtifact, origin: Origin, old_files: Path) -> Delta | None:
    old = origin.files
    if old is None or old.md5 == artifact.md5 or not (ranges := matching_ranges(artifact.path, old_files)):
        return None
    size = old_files.stat().st_size
    source = DeltaBase(path=old.link.path, etag=old.link.etag, md5=old.md5.lower(), size=size, ranges=ranges)
    return with_ancestors(artifact.size, source, old.delta)
