"""The compressors of squashfs."""

from __future__ import annotations

import lzma
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable

from ims.images.squashfs.superblock import HAS_OPTIONS, SIZE, Reader, SpliceError, Superblock

BLOCK = 8192
"""Bytes of a metadata block that is not compressed."""
HEADER = struct.Struct("<H")
"""Of a metadata block: the size of what follows, and STORED."""
STORED = 0x8000
"""The bit of a header that says that the block is not compressed."""
_LEVEL = struct.Struct("<I")
_GZIP = struct.Struct("<IHH")
_XZ = struct.Struct("<II")
_XZ_FILTERS = ("x86", "powerpc", "ia64", "arm", "armthumb", "sparc")
_XZ_MEMORY = 16 * 1024**2
"""Bytes that the library may reserve to unpack a metadata block. Those of mksquashfs need less than one MiB."""
_MAX_DICTIONARY = 1024**2
"""The largest block size."""


class Codec(ABC):
    """Compresses blocks as the other blocks of a squashfs are. Every method may raise SpliceError."""

    level: int | None = None
    """Of the compressor, if it has levels."""

    @property
    @abstractmethod
    def arguments(self) -> tuple[str, ...]:
        """The arguments with which mksquashfs packs a layer for this squashfs."""

    @abstractmethod
    def compress(self, data: bytes) -> bytes:
        """The compressed data of a metadata block."""

    @abstractmethod
    def decompress(self, data: bytes) -> bytes:
        """The reverse. Reserves little memory, whatever the data say."""

    def accepts(self, layer: Codec) -> bool:
        """Whether a squashfs with these options may contain blocks of the other one."""
        return type(layer) is type(self)

    def pack(self, data: bytes) -> bytes:
        """A metadata block with its header."""
        packed = self.compress(data)
        if len(packed) < len(data):
            return HEADER.pack(len(packed)) + packed
        return HEADER.pack(len(data) | STORED) + data

    def unpack(self, block: bytes) -> bytes:
        """The content of a metadata block. Raises SpliceError if it is damaged or has more than 8 KiB."""
        data = block[HEADER.size :]
        found = data if HEADER.unpack_from(block)[0] & STORED else self.decompress(data)
        if len(found) > BLOCK:
            raise SpliceError("a metadata block has more than 8 KiB")
        return found


class Zstd(Codec):
    """Zstandard."""

    def __init__(self, level: int = 15) -> None:
        import zstandard  # only this needs it

        self.level: int = _checked("compression level", level, 22)
        self._zstandard = zstandard
        self._compress = zstandard.ZstdCompressor(level=level)
        self._decompress = zstandard.ZstdDecompressor()

    @classmethod
    def read(cls, options: bytes, _block_size: int) -> Zstd:
        """With the options of a squashfs."""
        return cls(*_unpack(_LEVEL, options))

    @property
    def arguments(self) -> tuple[str, ...]:
        return "-comp", "zstd", "-Xcompression-level", str(self.level)

    def compress(self, data: bytes) -> bytes:
        return bytes(self._compress.compress(data))

    def decompress(self, data: bytes) -> bytes:
        try:
            # The library reserves as much memory as the block says.
            if self._zstandard.frame_content_size(data) > BLOCK:
                raise SpliceError("a metadata block has more than 8 KiB")
            return bytes(self._decompress.decompress(data, max_output_size=BLOCK))
        except self._zstandard.ZstdError as error:
            raise SpliceError(f"a metadata block is damaged: {error}") from None


class Gzip(Codec):
    """The format of zlib."""

    def __init__(self, level: int = 9) -> None:
        self.level: int = _checked("compression level", level, 9)

    @classmethod
    def read(cls, options: bytes, _block_size: int) -> Gzip:
        """With the options of a squashfs. Nothing that reads a squashfs needs the window size and the strategies."""
        return cls(*_unpack(_GZIP, options)[:1])

    @property
    def arguments(self) -> tuple[str, ...]:
        return "-comp", "gzip", "-Xcompression-level", str(self.level)

    def compress(self, data: bytes) -> bytes:
        return zlib.compress(data, self.level)

    def decompress(self, data: bytes) -> bytes:
        stream = zlib.decompressobj()
        try:
            found = stream.decompress(data, BLOCK + 1)
        except zlib.error as error:
            raise SpliceError(f"a metadata block is damaged: {error}") from None
        return _complete(found, is_complete=stream.eof)


class Xz(Codec):
    """LZMA in the format of xz. The kernel reserves a dictionary for all blocks, whose size the options say."""

    def __init__(self, block_size: int, dictionary: int | None = None, filters: int = 0) -> None:
        self._is_default = dictionary is None
        self._dictionary = block_size if dictionary is None else _checked("dictionary", dictionary, _MAX_DICTIONARY)
        self._filters = filters
        if filters >> len(_XZ_FILTERS):
            raise SpliceError(f"the options of its compressor have unknown filters ({filters:#x})")

    @classmethod
    def read(cls, options: bytes, block_size: int) -> Xz:
        """With the options of a squashfs."""
        return cls(block_size, *_unpack(_XZ, options))

    @property
    def arguments(self) -> tuple[str, ...]:
        names = [name for bit, name in enumerate(_XZ_FILTERS) if self._filters >> bit & 1]
        filters = ("-Xbcj", ",".join(names)) if names else ()
        dictionary = () if self._is_default else ("-Xdict-size", str(self._dictionary))
        return "-comp", "xz", *filters, *dictionary

    def accepts(self, layer: Codec) -> bool:
        return isinstance(layer, Xz) and layer._dictionary <= self._dictionary

    def compress(self, data: bytes) -> bytes:
        chain = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": BLOCK}]
        return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=chain)  # the kernel knows no other check

    def decompress(self, data: bytes) -> bytes:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)
        try:
            found = stream.decompress(data, BLOCK + 1)
        except lzma.LZMAError as error:
            raise SpliceError(f"a metadata block is damaged: {error}") from None
        return _complete(found, is_complete=stream.eof)


_CODECS: dict[int, Callable[[bytes, int], Codec]] = {1: Gzip.read, 4: Xz.read, 6: Zstd.read}
_OTHERS = {2: "lzma", 3: "lzo", 5: "lz4"}


def read_codec(reader: Reader, block: Superblock) -> tuple[Codec, int]:
    """Returns the compressor of a squashfs, and where its data begin. Raises SpliceError."""
    if block.compressor not in _CODECS:
        name = _OTHERS.get(block.compressor, f"number {block.compressor}")
        raise SpliceError(f"it is not compressed with zstd, xz or gzip (its compressor is {name})")
    options = _read_options(reader) if block.flags & HAS_OPTIONS else b""
    start = SIZE + HEADER.size + len(options) if block.flags & HAS_OPTIONS else SIZE
    return _CODECS[block.compressor](options, block.block_size), start


def _read_options(reader: Reader) -> bytes:
    (header,) = HEADER.unpack(reader.read(SIZE, HEADER.size))
    if not header & STORED or header & ~STORED > _GZIP.size:
        raise SpliceError("the options of its compressor are damaged")
    return reader.read(SIZE + HEADER.size, header & ~STORED)


def _unpack(layout: struct.Struct, options: bytes) -> tuple[int, ...]:
    """The options of a compressor; nothing if it has the default ones. Raises SpliceError."""
    if options and len(options) != layout.size:
        raise SpliceError("the options of its compressor are damaged")
    return layout.unpack(options) if options else ()


def _checked(name: str, value: int, largest: int) -> int:
    if not 1 <= value <= largest:
        raise SpliceError(f"the {name} of its compressor is {value}, not 1 to {largest}")
    return value


def _complete(found: bytes, *, is_complete: bool) -> bytes:
    """What was decompressed up to one byte more than a block. Raises SpliceError if the data end too early."""
    if not is_complete and len(found) <= BLOCK:
        raise SpliceError("a metadata block is truncated")
    return found
