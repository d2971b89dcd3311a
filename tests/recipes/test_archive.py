"""Recipe archives: packing, unpacking hostile archives, and the digest."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ims.errors import InputError
from ims.recipes import archive
from tests.fuzzing import examples

MAX_BYTES = 1024 * 1024
MAX_FILES = 60
DEBIAN_PYTHON = Path("/usr/bin/python3")
PLUGINS = Path(__file__).parents[2] / "plugins"

Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> Member:
    """One entry of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
    return info, content


def symlink(name: str, target: str) -> Member:
    """A symbolic link."""
    return member(name, kind=tarfile.SYMTYPE, link=target)


def hardlink(name: str, target: str) -> Member:
    """A hard link."""
    return member(name, kind=tarfile.LNKTYPE, link=target)


CONFIG = member("config.xml", b"<image/>")
NOISE = random.Random(1).randbytes(100_000)  # noqa: S311  (only has to be incompressible)


def tar(*members: Member) -> bytes:
    """An uncompressed archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as opened:
        for info, content in members:
            opened.addfile(info, io.BytesIO(content))
    return file.getvalue()


def packed(*members: Member) -> bytes:
    """A gzip tar archive."""
    return gzip.compress(tar(*members), mtime=0)


def unpack(data: bytes, parent: Path) -> Path:
    """Unpack an archive into a folder below `parent`; returns it."""
    file, folder = parent / "recipe.tar.gz", parent / "recipe"
    file.write_bytes(data)
    archive.unpack(file, folder, max_bytes=MAX_BYTES, max_files=MAX_FILES)
    return folder


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """The content of every path below a folder: the bytes of a file, the target of a link, None for a folder."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def with_size(data: bytes, name: str, field: bytes) -> bytes:
    """The archive with a different size in the header of the member `name`."""
    start = data.index(name.encode() + b"\0")
    header = bytearray(data[start : start + 512])
    header[124:136] = field.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:start] + bytes(header) + data[start + 512 :]


def overflow() -> list[Member]:
    """Links whose resolved path is longer than the kernel allows, so that a library stops following them."""
    name, members, folder, short = "d" * 247, [], "", "abcdefghijklmnop"
    for letter in short:
        members.append(member(f"{folder}{name}", kind=tarfile.DIRTYPE, mode=0o755))
        members.append(symlink(f"{folder}{letter}", name))
        folder += f"{name}/"
    far = "/".join(short) + "/" + "l" * 254
    members.append(symlink(far, "../" * len(short)))
    members.append(symlink("escape", f"{far}/.."))
    members.append(hardlink("other", "escape/outside.txt"))
    return [*members, member("other", b"overwritten"), CONFIG]


def pax_bomb() -> list[Member]:
    """An empty file with an attribute of 8 MiB, which compresses well."""
    info, content = member("bomb")
    info.pax_headers = {"comment": "x" * (8 * MAX_BYTES)}
    return [CONFIG, (info, content)]


def endless_headers() -> bytes:
    """Extended headers without an entry, one after the other. tarfile recurses for each."""
    header = tarfile.TarInfo("header")
    header.type = tarfile.XHDTYPE
    return gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) * 2000)


def sparse(form: str, size: int) -> bytes:
    """An archive of GNU tar in a format, with a large file of zeros that has a letter in the middle and at the end."""
    with TemporaryDirectory() as folder:
        Path(folder, "config.xml").write_bytes(b"<image/>")
        with Path(folder, "big").open("wb") as file:
            for place in (size // 2, size - 1):
                file.seek(place)
                file.write(b"x")
        command = ["tar", "-C", folder, "--sparse", f"--format={form}", "-cz", "config.xml", "big"]
        return subprocess.run(command, capture_output=True, check=True).stdout


def large_map(data: bytes = b"999999\n" + b"1\n" * 100_000) -> Member:
    """A sparse file whose map is large. tarfile keeps it in memory."""
    info, content = member("map", data)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    return info, content


WHOLE = tar(CONFIG, member("noise", NOISE))
DEVICES = {"character device": tarfile.CHRTYPE, "block device": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE}
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a gzip tar archive"),
    "not gzip": (tar(CONFIG), "not a gzip tar archive"),
    "not a tar": (gzip.compress(b"hello " * 1000), "not a gzip tar archive"),
    "gzip cut short": (gzip.compress(WHOLE)[:60_000], "not a gzip tar archive"),
    "tar cut short": (gzip.compress(WHOLE[:60_000]), "not a gzip tar archive"),
    "a bit wrong": (gzip.compress(WHOLE, compresslevel=0).replace(NOISE[:9], b"X" * 9), "not a gzip tar archive"),
    "..": (packed(CONFIG, member("../outside.txt", b"evil")), "unpacked safely"),
    ".. in the middle": (packed(CONFIG, member("root/../../outside.txt", b"evil")), "unpacked safely"),
    "absolute name": (packed(CONFIG, member("/etc/outside.txt", b"evil")), "unpacked safely"),
    "absolute link": (packed(CONFIG, symlink("link", "/etc/passwd")), "unpacked safely"),
    "link outside": (packed(CONFIG, symlink("root/link", "../../outside.txt")), "unpacked safely"),
    "hard link outside": (packed(CONFIG, hardlink("link", "../outside.txt")), "unpacked safely"),
    "file through a link": (packed(CONFIG, symlink("a", ".."), member("a/outside.txt", b"evil")), "unpacked safely"),
    "link too long to follow": (packed(*overflow()), "unpacked"),
    **{what: (packed(CONFIG, member("dev", kind=kind)), "unpacked safely") for what, kind in DEVICES.items()},
    "file below a file": (packed(CONFIG, member("config.xml/x")), "unpacked"),
    "name too long": (packed(CONFIG, member("n" * 300)), "unpacked"),
    "too many bytes": (packed(CONFIG, member("big", bytes(MAX_BYTES))), f"more than {MAX_BYTES} bytes"),
    "too many files": (
        packed(CONFIG, *(member(f"f{n}") for n in range(MAX_FILES))),
        f"more than {MAX_FILES} files: .f59. is number {MAX_FILES + 1}",
    ),
    "negative size": (gzip.compress(with_size(WHOLE, "noise", b"\xff" * 12)), "archive"),
    "too many bytes in a header": (packed(*pax_bomb()), "headers of an entry .* larger than 65536 bytes"),
    "endless headers": (endless_headers(), "headers of an entry .* larger than 65536 bytes"),
    "too many folders": (packed(CONFIG, member("/".join("d" * 61) + "/f")), f"more than {MAX_FILES} files"),
    "nested too deep": (packed(CONFIG, member("d/" * 101 + "f")), "in 101 nested folders, more than 100"),
    "nested far too deep": (packed(CONFIG, member("d/" * 1020)), "in 1019 nested folders, more than 100"),
    "path too long": (packed(CONFIG, member(f"{'n' * 200}/" * 11)), "its name has 2210 bytes, more than 2048"),
    "target too long": (packed(CONFIG, symlink("link", "n" * 3000)), "its target has 3000 bytes, more than 2048"),
    "a file twice": (packed(CONFIG, member("x"), member("./x")), "'./x' cannot .*: the archive has it twice"),
    "a file and a link": (packed(CONFIG, member("x"), symlink("x", "config.xml")), "'x' .* the archive has it twice"),
    "a link and a file": (packed(CONFIG, symlink("x", "config.xml"), member("x")), "'x' .* the archive has it twice"),
    "a folder and a link": (packed(member("d/config.xml"), symlink("d", ".")), "'d' .* the archive has it twice"),
    "two descriptions": (packed(CONFIG, CONFIG), "'config.xml' .* the archive has it twice"),
    "sparse and huge": (sparse("posix", 1024**4), f"more than {MAX_BYTES} bytes: with 'big' they are 10995"),
    "sparse, old and huge": (sparse("gnu", 1024**4), f"more than {MAX_BYTES} bytes: with 'big' they are 10995"),
    "sparse with a large map": (packed(CONFIG, large_map()), "headers of an entry .* larger than 65536 bytes"),
    "sparse, not a number": (packed(CONFIG, large_map(b"x\n" * 500)), "not a gzip tar archive: invalid literal"),
    "no config.xml": (packed(member("config.sh")), "no config.xml at its root$"),
    "config.xml is a folder": (packed(member("config.xml", kind=tarfile.DIRTYPE)), "no config.xml at its root$"),
    "config.xml leads nowhere": (packed(symlink("config.xml", "gone")), "no config.xml at its root$"),
    "the folder packed": (packed(member("mine/config.xml")), "its root, but mine/config.xml"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_bad_archive_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes, reason: str) -> None:
    """No file inside or outside of the recipe's folder is created or changed."""
    outside = tmp_path / "outside.txt"
    outside.write_text("untouched")
    with pytest.raises(InputError) as caught:
        unpack(data, tmp_path)
    assert caught.match(reason) if not reason.endswith("$") else caught.value.reason.endswith(reason[:-1])
    assert tree(tmp_path) == {"outside.txt": b"untouched", "recipe.tar.gz": data}


def test_leftovers_of_an_earlier_try_are_removed(tmp_path: Path) -> None:
    """A step that is tried again starts from an empty folder."""
    (tmp_path / "recipe" / "old").mkdir(parents=True)
    assert tree(unpack(packed(CONFIG), tmp_path)) == {"config.xml": b"<image/>"}


def test_archive_made_with_tar_is_unpacked(tmp_path: Path) -> None:
    """The names of the members begin with `./`, as they do with the command in the hint."""
    source = tmp_path / "source"
    (source / "root" / "etc").mkdir(parents=True)
    (source / "config.xml").write_bytes(b"<image/>")
    (source / "root" / "etc" / "motd").write_bytes(b"hello")
    os.link(source / "root" / "etc" / "motd", source / "root" / "etc" / "issue")
    (source / "root" / "link").symlink_to("etc/motd")
    made = tmp_path / "made.tar.gz"
    subprocess.run(["tar", "-C", source, "-czf", made, "."], check=True)
    assert tree(unpack(made.read_bytes(), tmp_path)) == tree(source)


@pytest.mark.parametrize(
    ("given_mode", "expected"),
    [(0o4755, 0o755), (0o2755, 0o755), (0o666, 0o644), (0o777, 0o755), (0o600, 0o600), (0o444, 0o644)],
    ids=oct,
)
def test_file_mode(tmp_path: Path, given_mode: int, expected: int) -> None:
    """Overlay files keep their modes, but without set-id bits and write access for others."""
    folder = unpack(packed(CONFIG, member("program", mode=given_mode)), tmp_path)
    assert (folder / "program").stat().st_mode & 0o7777 == expected


def test_files_belong_to_the_unpacking_user(tmp_path: Path) -> None:
    """The owners in an archive have no effect."""
    info, content = member("file", b"x")
    info.uid = info.gid = 12345
    status = (unpack(packed(CONFIG, (info, content)), tmp_path) / "file").stat()
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("link", "config.xml"),
        ("root/link", "../config.xml"),
        ("root/etc/up", ".."),
        ("root/etc/units/ssh.service", "../../../root/lib/not-in-the-recipe"),
    ],
)
def test_link_inside_is_kept(tmp_path: Path, name: str, target: str) -> None:
    """Links of an overlay may refer to files that only the image has."""
    folder = unpack(packed(CONFIG, symlink(name, target)), tmp_path)
    assert str((folder / name).readlink()) == target


def test_link_stays_inside_when_its_path_changes(tmp_path: Path) -> None:
    """`step/deep/../..` is the recipe's folder until `step` becomes a link. It must never lead outside."""
    members = [symlink("way", "step/deep/../../outside.txt"), member("deep/x"), symlink("step", "."), CONFIG]
    with suppress(InputError):
        unpack(packed(*members), tmp_path)
    assert (tmp_path / "recipe" / "way").resolve().is_relative_to(tmp_path / "recipe")


def test_hard_link_inside_is_the_same_file(tmp_path: Path) -> None:
    """tar stores files with several names as hard links."""
    folder = unpack(packed(CONFIG, member("a", b"x"), hardlink("b", "a")), tmp_path)
    assert (folder / "b").samefile(folder / "a")


@pytest.mark.system
def test_works_with_the_python_of_debian(tmp_path: Path) -> None:
    """The tarfile module of Debian 12's Python 3.11.2 has no filters."""
    data = packed(CONFIG, member("root/motd", b"hello"), symlink("root/link", "motd"))
    expected = archive.digest(unpack(data, tmp_path))
    program = (
        "import sys; from pathlib import Path; from ims.recipes import archive\n"
        "file, folder = map(Path, sys.argv[1:])\n"
        "archive.unpack(file, folder, max_bytes=9999, max_files=9); print(archive.digest(folder))"
    )
    done = subprocess.run(
        [DEBIAN_PYTHON, "-c", program, tmp_path / "recipe.tar.gz", tmp_path / "other"],
        env={"PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (expected, "")


# Packing and the digest

names = st.text("abcä é.-", min_size=1, max_size=6).filter(lambda name: name.strip(".") and name != "config.xml")
recipes = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map(tuple), st.tuples(st.binary(max_size=20), st.booleans()), max_size=5
).filter(lambda files: not any(one != other and one == other[: len(one)] for one in files for other in files))
PATIENTLY = hypothesis_settings(deadline=None, max_examples=examples(25), suppress_health_check=[HealthCheck.too_slow])
Files = dict[tuple[str, ...], tuple[bytes, bool]]


def members_of(files: Files) -> list[Member]:
    """The files of a recipe as archive members."""
    return [
        CONFIG,
        symlink("link", "config.xml"),
        *(
            member("/".join(name), content, mode=0o755 if program else 0o644)
            for name, (content, program) in files.items()
        ),
    ]


def digest_of(members: Iterable[Member]) -> str:
    """The digest of a recipe archive."""
    with TemporaryDirectory() as folder:
        return archive.digest(unpack(packed(*members), Path(folder)))


@PATIENTLY
@given(recipes, st.data())
def test_digest_ignores_order_times_owners_and_other_modes(files: Files, data: st.DataObject) -> None:
    """A recipe has the same digest, whoever packed it and when."""
    expected = digest_of(members_of(files))
    shuffled: Sequence[Member] = data.draw(st.permutations(members_of(files)))
    for info, _ in shuffled:
        info.mtime = data.draw(st.integers(0, 2**31))
        info.uid = data.draw(st.integers(0, 2**20))
        info.mode ^= data.draw(st.sampled_from([0, 0o020, 0o040, 0o004]))
    assert digest_of(shuffled) == expected


@PATIENTLY
@given(recipes, recipes)
def test_digest_differs_if_recipes_differ(files: Files, others: Files) -> None:
    """Two recipes have the same digest only if their files are equal."""
    assert (digest_of(members_of(files)) == digest_of(members_of(others))) == (files == others)


CHANGES = {
    "content": member("file", b"other", mode=0o755),
    "not executable": member("file", b"x", mode=0o644),
    "name": member("file2", b"x", mode=0o755),
    "link": symlink("file", "config.xml"),
    "folder": member("file", kind=tarfile.DIRTYPE),
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
def test_digest_includes(changed: Member) -> None:
    """Everything that a build could distinguish changes the digest."""
    assert digest_of([CONFIG, changed]) != digest_of([CONFIG, member("file", b"x", mode=0o755)])


def test_digest_sees_where_a_link_leads() -> None:
    """The target of a link is part of the digest."""
    assert digest_of([CONFIG, symlink("a", "b")]) != digest_of([CONFIG, symlink("a", "c")])


def write_recipe(folder: Path, names_in_order: Sequence[str], mtime: int, uid: int) -> Path:
    """Write a recipe with files in a certain order, of a certain time and owner."""
    for name in names_in_order:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
        os.chown(path, uid, uid)
        os.utime(path, (mtime, mtime))
    (folder / "root" / "link").symlink_to("etc/motd")
    return folder


@pytest.mark.system
def test_pack_gives_the_same_bytes_for_the_same_recipe(tmp_path: Path) -> None:
    """The order, the times and the owners of the files have no effect."""
    order = ["config.xml", "config.sh", "root/etc/motd"]
    archive.pack(write_recipe(tmp_path / "a", order, 1, 0), tmp_path / "a.tar.gz")
    archive.pack(write_recipe(tmp_path / "b", order[::-1], 10**9, 1234), tmp_path / "b.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    (tmp_path / "b" / "config.sh").write_text("other")
    archive.pack(tmp_path / "b", tmp_path / "b.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes() != (tmp_path / "b.tar.gz").read_bytes()


@pytest.mark.system
def test_packed_recipe_unpacks_to_itself(tmp_path: Path) -> None:
    """Unpacking keeps content, links and modes, so the digest is the same."""
    source = write_recipe(tmp_path / "source", ["config.xml", "config.sh", "root/etc/motd"], 1, 0)
    archive.pack(source, tmp_path / "made.tar.gz")
    folder = unpack((tmp_path / "made.tar.gz").read_bytes(), tmp_path)
    assert tree(folder) == tree(source)
    assert archive.digest(folder) == archive.digest(source)


def test_pack_refuses_a_folder_that_is_not_a_recipe(tmp_path: Path) -> None:
    """No archive is written."""
    with pytest.raises(InputError, match=r"has no config\.xml"):
        archive.pack(tmp_path, tmp_path / "made.tar.gz")
    assert tree(tmp_path) == {}


def test_digest_of_all_modes(tmp_path: Path) -> None:
    """The modes in overlays of profiles count if asked for: kiwi keeps them."""
    file = tmp_path / "Lab" / "secret"
    file.parent.mkdir()
    file.write_text("x")
    digests = []
    for mode in (0o644, 0o600):
        file.chmod(mode)
        digests.append((archive.digest(tmp_path), archive.digest(tmp_path, all_modes=True)))
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]
