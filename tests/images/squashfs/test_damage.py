"""Damaged and hostile squashfs: an error instead of an image, whatever they say about themselves."""

from __future__ import annotations

import lzma
import struct
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ims.images.squashfs import metadata
from ims.images.squashfs.codecs import BLOCK, Codec, Gzip, Xz, Zstd
from ims.images.squashfs.image import Image
from ims.images.squashfs.metadata import Table, TableWriter
from ims.images.squashfs.splice import splice
from ims.images.squashfs.superblock import NO_TABLE, SIZE, SpliceError, Superblock, read_superblock
from tests.fuzzing import examples
from tests.images.squashfs.overlays import ZSTD, pack

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Bytes:
    """A squashfs in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.content)

    def read(self, start: int, size: int) -> bytes:
        """As files are read."""
        if size and start + size > self.size:
            raise SpliceError("truncated")
        return self.content[start : start + size]


@pytest.fixture(
    scope="module", params=[ZSTD, ("-comp", "gzip", "-no-exports"), ("-comp", "xz")], ids=lambda item: item[1]
)
def compressor(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options of mksquashfs."""
    options: tuple[str, ...] = request.param
    return options


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory, compressor: tuple[str, ...]) -> bytes:
    """A squashfs."""
    root = tmp_path_factory.mktemp("root")
    for number in range(30):
        (root / f"folder{number}").mkdir()
        (root / f"folder{number}/file").write_text(f"{number}\n" * 1000 * number)
    (root / "link").symlink_to("x" * 300)
    (root / "hard").hardlink_to(root / "folder3/file")
    return pack(root, root.with_name("squashfs"), compressor=compressor).read_bytes()


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory, compressor: tuple[str, ...]) -> Image:
    """A layer that changes the squashfs."""
    root = tmp_path_factory.mktemp("layer")
    (root / "folder3").mkdir()
    (root / "folder3/new").write_text("new")
    (root / "hard").write_text("the other name loses one")
    return Image(Bytes(pack(root, root.with_name("layer"), compressor=compressor).read_bytes()))


def use(content: bytes, layer: Image) -> None:
    """Everything that is done with an image that is customized."""
    base = Image(Bytes(content))
    list(base.xattrs.sets())
    list(base.fragments.entries())
    assert sum(1 for _ in base.walk(base.root)) <= base.block.inodes
    list(base.linked())
    splice(base, layer)


def test_intact(content: bytes, layer: Image) -> None:
    """The squashfs that the other tests damage is intact."""
    use(content, layer)


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_truncated(content: bytes, layer: Image, data: Any) -> None:
    """A part of a squashfs is never used."""
    used = read_superblock(Bytes(content)).bytes_used
    with pytest.raises(SpliceError):
        use(content[: data.draw(st.integers(0, used - 1))], layer)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged(content: bytes, layer: Image, data: Any) -> None:
    """Wrong bytes in the metadata are reported as an error, or harm nothing but the file that they are part of."""
    block = read_superblock(Bytes(content))
    place = data.draw(st.one_of(st.integers(0, SIZE), st.integers(block.inode_start, block.bytes_used - 1)))
    wrong = data.draw(st.binary(min_size=1, max_size=8))
    with suppress(SpliceError):
        use(content[:place] + wrong + content[place + len(wrong) :], layer)


NUMBERS = st.one_of(st.integers(0, 100), st.integers(0, 2**16 - 1), st.integers(2**31, 2**32 - 1))


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from([item.name for item in fields(Superblock)]), number=NUMBERS)
@example(name="inodes", number=2**32 - 1)
@example(name="fragments", number=2**32 - 1)
@example(name="ids", number=65535)
@example(name="id_start", number=NO_TABLE)
@example(name="inode_start", number=NO_TABLE)
def test_superblock_lies(content: bytes, layer: Image, name: str, number: int) -> None:
    """Counts and positions are compared with what is there, before memory is reserved for it."""
    block = read_superblock(Bytes(content))
    try:
        lie = replace(block, **{name: number}).pack()
    except struct.error:
        return
    with suppress(SpliceError):
        use(lie + content[SIZE:], layer)


def test_folders_that_share_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read is limited: a few bytes of a hostile table can be read without end."""
    monkeypatch.setattr(metadata, "_MAX_READ", 10 * BLOCK)
    table = Table(Zstd(3).pack(bytes(BLOCK)), Zstd(3))
    for _ in range(9):
        table.read(0, 0, BLOCK)
    with pytest.raises(SpliceError, match="would have to be read"):
        table.read(0, 0, BLOCK)


def test_block_that_says_it_is_huge() -> None:
    """No memory is reserved for it."""
    codec = Zstd(3)
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * 1024**2))
    assert len(bomb) < BLOCK
    with pytest.raises(SpliceError, match="more than 8 KiB"):
        codec.unpack(struct.pack("<H", len(bomb)) + bomb)


def test_block_that_does_not_say_that_it_is_huge() -> None:
    """It is unpacked up to the limit."""
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    bomb = stream.compress(bytes(64 * 1024**2)) + stream.flush()
    with pytest.raises(SpliceError, match="damaged"):
        Zstd(3).unpack(struct.pack("<H", len(bomb)) + bomb)


def bomb_of(codec: Codec) -> bytes:
    """A metadata block that becomes 64 MiB."""
    packed = codec.compress(bytes(64 * 1024**2))
    return struct.pack("<H", len(packed) & 0x7FFF) + packed


@pytest.mark.parametrize("codec", [Gzip(), Xz(1 << 20), Zstd(3)], ids=lambda codec: type(codec).__name__)
def test_bombs_of_all_compressors(codec: Codec) -> None:
    """They are unpacked up to the limit, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(SpliceError, match="more than 8 KiB"):
            codec.unpack(bomb := bomb_of(codec))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        with suppress(SpliceError):
            codec.unpack(bomb)
        assert tracemalloc.get_traced_memory()[1] - before < 1024**2
    finally:
        tracemalloc.stop()


def test_dictionary_of_xz() -> None:
    """A block that asks for a large dictionary is refused: the library would reserve its memory."""
    chain = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    block = lzma.compress(b"x", lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=chain)
    with pytest.raises(SpliceError, match="damaged: Memory usage limit"):
        Xz(1 << 20).unpack(struct.pack("<H", len(block)) + block)


@settings(max_examples=examples(100), deadline=None)
@given(codec=st.sampled_from([Gzip(), Xz(1 << 20), Zstd(3)]), content=st.binary(max_size=BLOCK), data=st.data())
def test_damaged_blocks(codec: Codec, content: bytes, data: Any) -> None:
    """An intact block has its content. A truncated or damaged one is an error, or has at most 8 KiB."""
    packed = codec.pack(content)
    assert codec.unpack(packed) == content
    place, wrong = data.draw(st.integers(0, len(packed))), data.draw(st.binary(max_size=8))
    with suppress(SpliceError):
        assert len(codec.unpack(packed[:2] + packed[2:place] + wrong)) <= BLOCK


@given(st.lists(st.binary(max_size=3 * BLOCK), max_size=6))
def test_table_is_continued(parts: list[bytes]) -> None:
    """The old blocks stay, except for the last; everything can be read from where it was written."""
    codec, table, places = Zstd(3), None, list[tuple[int, int]]()
    for part in parts:
        writer = TableWriter(codec, table)
        places.append(writer.write(part))
        written = writer.finish()
        if table is not None and table.starts:
            assert written.startswith(table.raw[: table.starts[-1]])
        table = Table(written, codec)
    for part, (start, offset) in zip(parts, places, strict=True):
        assert table is not None
        assert not part or table.read(start, offset, len(part)) == part
