"""What a customized image has in common with the image that was customized."""

from __future__ import annotations

import random
from pathlib import Path

from ims.images.files import write_lines
from ims.steps.artifacts import Base, PackedArtifact
from ims.steps.deltas import use_origin
from ims.steps.origin import Origin
from ims.storage.delta import Delta, DeltaBase, Range
from ims.storage.digests import digest_file
from ims.storage.manifest import FILES, KERNEL, ROOTFS, Artifact, Link

NOISE = random.Random(3)  # noqa: S311  (no secret)
OLD = NOISE.randbytes(100_000)
KEPT, HEAD = 60_000, 96


def of_old(kind: str, md5: str, delta: Delta | None = None) -> Artifact:
    """An artifact of the old image."""
    return Artifact(type=kind, md5=md5, link=Link(path=f"s3://boot-images/old/{kind[-5:]}", etag="etag"), delta=delta)


def origin(*artifacts: Artifact, md5: str = "1" * 32) -> Origin:
    """What is known of the old image."""
    return Origin(rootfs="s3://boot-images/old/rootfs", md5=md5, artifacts=[*artifacts])


def continued(folder: Path, tail: bytes) -> PackedArtifact:
    """A rootfs that has the first bytes of an old one."""
    (folder / "old").write_bytes(OLD)
    (folder / "new").write_bytes(bytes(HEAD) + tail)
    base = Base(url="s3://boot-images/old/rootfs", path=folder / "old", kept=KEPT, head=HEAD, etag="etag")
    known = {"path": folder / "new", "size": KEPT + len(tail), "md5": "6" * 32, "sha256": "4" * 64}
    return PackedArtifact(name="rootfs", type=ROOTFS, base=base, **known)


def test_rootfs(tmp_path: Path) -> None:
    """The manifest names the old data, and the old tables that the new ones contain."""
    new = continued(tmp_path, b"layer" + OLD[KEPT:90_000] + b"new")
    kernel = PackedArtifact(name="k", type=KERNEL, path=tmp_path / "k", size=1, md5="2" * 32, sha256="4" * 64)
    use_origin([kernel, new], origin(of_old(KERNEL, "2" * 32)), tmp_path / "none")
    assert kernel.original is not None
    assert kernel.delta is None
    kept = Range(offset=HEAD, length=KEPT - HEAD, source_offset=HEAD)
    tables = Range(offset=KEPT + 5, length=28_672, source_offset=KEPT)
    base = DeltaBase(path="s3://boot-images/old/rootfs", etag="etag", md5="1" * 32, size=100_000, ranges=[kept, tables])
    assert new.delta == Delta(size=KEPT + 30_008, bases=[base])


def test_ancestors(tmp_path: Path) -> None:
    """What the old rootfs has of older ones, the new one has of them, too."""
    new = continued(tmp_path, b"tail")
    older = DeltaBase(
        path="s3://boot-images/older/rootfs",
        md5="7" * 32,
        size=1000,
        ranges=[Range(offset=0, length=200, source_offset=50)],
    )
    use_origin([new], origin(of_old(ROOTFS, "1" * 32, Delta(size=100_000, bases=[older]))), tmp_path / "none")
    assert new.delta is not None
    assert [item.md5 for item in new.delta.bases] == ["1" * 32, "7" * 32]
    assert new.delta.bases[1].ranges == [Range(offset=HEAD, length=104, source_offset=146)]


def test_without_a_checksum(tmp_path: Path) -> None:
    """A base that cannot be verified is not named."""
    new = continued(tmp_path, b"tail")
    use_origin([new], origin(md5=""), tmp_path / "none")
    assert new.delta is None


def test_list_of_files(tmp_path: Path) -> None:
    """A list with one other line shares almost all of its bytes with the old one."""
    lines = [f'{{"path":"/{number}","sha256":"{NOISE.randbytes(32).hex()}"}}'.encode() for number in range(60_000)]
    write_lines(lines, tmp_path / "old")
    write_lines([*lines[:30_000], b"new", *lines[30_000:]], tmp_path / "new")
    old, new = digest_file(tmp_path / "old"), digest_file(tmp_path / "new")
    known = {"path": tmp_path / "new", "size": new.size, "md5": new.md5, "sha256": new.sha256}
    artifact = PackedArtifact(name="files", type=FILES, **known)
    use_origin([artifact], origin(), tmp_path / "old")
    assert artifact.delta is None
    use_origin([artifact], origin(of_old(FILES, old.md5)), tmp_path / "old")
    assert artifact.delta is not None
    (base,) = artifact.delta.bases
    assert (base.md5, base.size) == (old.md5, old.size)
    assert sum(item.length for item in base.ranges) > 0.97 * new.size
