"""Overlays of real recipes: their files reach the image as they are, and nothing follows their links on the builder."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from ims.errors import InputError
from ims.recipes import archive, phases
from ims.recipes.overlay import ATTRIBUTES, CAPABILITY, apply_attributes
from tests.recipes.test_archive import Member, digest_of, hardlink, member, packed, sparse, symlink, tree, unpack
from tests.recipes.test_phases import expansion_of

DESCRIPTION = member(
    "config.xml",
    b"""<image schemaversion="7.4" name="site"><description type="system"><author>a</author><contact>a</contact>
<specification>a</specification></description><preferences><version>1.0.0</version>
<packagemanager>dnf4</packagemanager><type image="tbz"/></preferences></image>""",
)
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw=ep, as the kernel stores it."""


def folder(name: str, mode: int) -> Member:
    """A folder with a mode."""
    return member(name, kind=tarfile.DIRTYPE, mode=mode)


def with_capability(entry: Member, value: bytes = NET_RAW) -> Member:
    """A file with capabilities, as `tar --xattrs` stores them."""
    entry[0].pax_headers = {f"SCHILY.xattr.{CAPABILITY}": value.decode(errors="surrogateescape")}
    return entry


def image_part(recipe: Path) -> Path:
    """The folder that kiwi copies the overlay from."""
    target = recipe.with_name("image-part")
    phases.write_image_part(recipe, target, expansion_of(recipe))
    return target


def mode(path: Path) -> int:
    """The mode of a file."""
    return stat.S_IMODE(path.lstat().st_mode)


MODES = {
    "root/etc/sudoers.d": folder("root/etc/sudoers.d", 0o750),
    "root/etc/sudoers.d/operator": member("root/etc/sudoers.d/operator", b"x", mode=0o440),
    "root/etc/shadow": member("root/etc/shadow", b"x", mode=0),
    "root/root": folder("root/root", 0o700),
    "root/root/.ssh": folder("root/root/.ssh", 0o550),
    "root/root/.ssh/config": member("root/root/.ssh/config", b"x", mode=0o600),
    "root/tmp": folder("root/tmp", 0o1777),
    "root/var/spool/site": folder("root/var/spool/site", 0o2770),
    "root/usr/bin/site-su": member("root/usr/bin/site-su", b"x", mode=0o4755),
    "root/usr/bin/site-write": member("root/usr/bin/site-write", b"x", mode=0o2711),
    "root/opt/shared": member("root/opt/shared", b"x", mode=0o666),
}


def test_modes(tmp_path: Path) -> None:
    """Files and folders of the overlay have all bits of their modes in the image."""
    recipe = unpack(packed(DESCRIPTION, *MODES.values()), tmp_path)
    found = {name: mode(image_part(recipe) / name) for name in MODES}
    assert found == {name: info.mode for name, (info, _) in MODES.items()}


def test_modes_for_an_ordinary_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the build, an ordinary user who unpacked the recipe can read, change and remove all of it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    recipe = unpack(packed(DESCRIPTION, *MODES.values()), tmp_path)
    for name in MODES:
        wanted = 0o700 if (recipe / name).is_dir() else 0o600
        assert mode(recipe / name) & wanted == wanted


@pytest.mark.system
def test_modes_for_root(tmp_path: Path) -> None:
    """If root unpacks the recipe, its files have their modes at once."""
    recipe = unpack(packed(DESCRIPTION, *MODES.values()), tmp_path)
    assert {name: mode(recipe / name) for name in MODES} == {name: info.mode for name, (info, _) in MODES.items()}


def test_folders_without_an_entry(tmp_path: Path) -> None:
    """An archive with files only changes neither /tmp nor /root, nor does the umask."""
    before = os.umask(0o077)
    recipe = unpack(packed(DESCRIPTION, member("root/tmp/a"), member("root/root/b"), member("root/etc/c")), tmp_path)
    os.umask(before)
    assert [mode(recipe / "root" / name) for name in ("tmp", "root", "etc")] == [0o1777, 0o700, 0o755]


def test_modes_outside_of_the_overlay(tmp_path: Path) -> None:
    """Scripts of the recipe are no files of the image: only whether they are programs matters."""
    recipe = unpack(packed(DESCRIPTION, member("config.sh", mode=0o6777), folder("parts", 0o1777)), tmp_path)
    assert (mode(recipe / "config.sh"), mode(recipe / "parts")) == (0o755, 0o755)
    assert archive.digest(recipe) == archive.digest(
        unpack(packed(DESCRIPTION, member("config.sh", mode=0o744), folder("parts", 0o700)), tmp_path)
    )


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o600), (0o640, 0o440), (0o755, 0o4755), (0o600, 0o400)])
def test_mode_decides_the_digest(before: int, after: int) -> None:
    """A plan notices if only the mode of an overlay file changed."""
    first, second = (member("root/munge.key", b"x", mode=value) for value in (before, after))
    assert digest_of([DESCRIPTION, first]) != digest_of([DESCRIPTION, second])


def test_mode_of_a_folder_decides_the_digest() -> None:
    """So does the mode of a folder."""
    assert len({digest_of([DESCRIPTION, folder("root/d", value)]) for value in (0o755, 0o555, 0o750)}) == 3


@pytest.mark.system
def test_capabilities(tmp_path: Path) -> None:
    """Capabilities of programs are kept, and decide the digest."""
    entry = member("root/usr/bin/ping", b"x", mode=0o755)
    without = archive.digest(unpack(packed(DESCRIPTION, entry), tmp_path))
    recipe = unpack(packed(DESCRIPTION, with_capability(entry)), tmp_path)
    assert archive.digest(recipe) != without
    assert os.getxattr(image_part(recipe) / "root/usr/bin/ping", CAPABILITY) == NET_RAW


@pytest.mark.system
def test_capabilities_of_tar_and_of_push(tmp_path: Path) -> None:
    """GNU tar's archives and those of `ims recipes push` have them."""
    source = tmp_path / "source"
    (source / "root").mkdir(parents=True)
    (source / "config.xml").write_bytes(DESCRIPTION[1])
    shutil.copy("/usr/bin/true", source / "root/ping")
    subprocess.run(["setcap", "cap_net_raw=ep", source / "root/ping"], check=True)
    made = tmp_path / "made.tar.gz"
    xattrs = ("--xattrs", "--xattrs-include=*")
    subprocess.run(["tar", *xattrs, "-C", source, "-czf", made, "."], check=True)
    assert os.getxattr(image_part(unpack(made.read_bytes(), tmp_path)) / "root/ping", CAPABILITY) == NET_RAW
    archive.pack(source, made)
    assert os.getxattr(image_part(unpack(made.read_bytes(), tmp_path)) / "root/ping", CAPABILITY) == NET_RAW


def test_endless_capabilities(tmp_path: Path) -> None:
    """The kernel has no capabilities of that size."""
    entry = with_capability(member("root/x"), b"x" * 65)
    with pytest.raises(InputError, match="its capabilities have 65 bytes, more than 64"):
        unpack(packed(DESCRIPTION, entry), tmp_path)


LINKS = {
    "root/etc/systemd/system/systemd-firstboot.service": "/dev/null",
    "root/etc/systemd/system/multi-user.target.wants/site.service": "/usr/lib/systemd/system/site.service",
    "root/etc/localtime": "/usr/share/zoneinfo/Europe/Berlin",
    "root/srv/www": "/",
}


def test_absolute_links_of_the_overlay(tmp_path: Path) -> None:
    """What `systemctl enable` and `mask` make is kept, also in the folder that kiwi copies."""
    recipe = unpack(packed(DESCRIPTION, *(symlink(*link) for link in LINKS.items())), tmp_path)
    for part in (recipe, image_part(recipe)):
        assert {name: str((part / name).readlink()) for name in LINKS} == LINKS


ESCAPES: dict[str, tuple[Member, ...]] = {
    "absolute, outside of the overlay": (symlink("config.sh", "/etc/passwd"),),
    "absolute, the overlay itself": (symlink("root", "/etc"),),
    "to a link of the image": (symlink("root/x", "/etc/passwd"), symlink("config.sh", "root/x")),
    "before it": (symlink("config.sh", "root/x"), symlink("root/x", "/etc/passwd")),
    "through a link of the image": (symlink("root/x", "/etc"), symlink("config.sh", "root/x/passwd")),
    "through a folder": (symlink("d", "root/etc"), symlink("config.sh", "d/x"), symlink("root/etc/x", "/etc/passwd")),
    "through dots": (symlink("d", "."), symlink("config.sh", "d/root/x"), symlink("root/x", "/etc/passwd")),
    "through a chain": (
        *(symlink(f"l{n}", f"l{n + 1}") for n in range(30)),
        symlink("l30", "root/x"),
        symlink("root/x", "/etc/passwd"),
    ),
    "to a relative link of the image": (
        symlink("config.sh", "root/y"),
        symlink("root/y", "x"),
        symlink("root/x", "/etc/passwd"),
    ),
    "by a hard link": (symlink("root/x", "/etc/passwd"), hardlink("config.sh", "root/x")),
    "by a hard link elsewhere": (symlink("root/a/b/x", "../../y"), hardlink("y", "root/a/b/x")),
}


@pytest.mark.parametrize("members", ESCAPES.values(), ids=ESCAPES)
def test_no_other_link_leads_to_the_builder(tmp_path: Path, members: tuple[Member, ...]) -> None:
    """The builder reads scripts and templates: no link outside of the overlay leads to a file of the builder."""
    with pytest.raises(InputError, match="cannot be unpacked safely: it leads "):
        unpack(packed(DESCRIPTION, *members), tmp_path)
    assert not (tmp_path / "recipe").exists()


def test_links_in_a_circle(tmp_path: Path) -> None:
    """They lead nowhere, so they are harmless."""
    recipe = unpack(packed(DESCRIPTION, symlink("a", "b"), symlink("b", "a")), tmp_path)
    assert str((recipe / "a").readlink()) == "b"


def test_links_that_take_long_to_follow(tmp_path: Path) -> None:
    """The time that links cost is bounded."""
    links = [symlink(f"l{n}", "x/" * 1000 + f"l{n + 1}") for n in range(2000)]
    source = tmp_path / "links.tar.gz"
    source.write_bytes(packed(DESCRIPTION, *links))
    with pytest.raises(InputError, match="the links of the archive are too many and too long"):
        archive.unpack(source, tmp_path / "recipe", max_bytes=10**6, max_files=10**4)


def test_playbooks_have_no_overlay(tmp_path: Path) -> None:
    """In the archive of a playbook, a folder `root` is a folder like others."""
    source = tmp_path / "playbook.tar.gz"
    source.write_bytes(packed(member("site.yml"), member("root/a", mode=0o4777)))
    archive.unpack(source, tmp_path / "playbook", max_bytes=999, max_files=9, entry="site.yml")
    assert mode(tmp_path / "playbook/root/a") == 0o755
    source.write_bytes(packed(member("site.yml"), symlink("root/a", "/etc")))
    with pytest.raises(InputError, match="it leads out of the archive, to '/etc'"):
        archive.unpack(source, tmp_path / "playbook", max_bytes=999, max_files=9, entry="site.yml")


def test_hard_link_to_a_link(tmp_path: Path) -> None:
    """tar stores a link with several names as a hard link to a link."""
    members = [
        symlink("root/usr/bin/stool", "site-tool"),
        member("root/usr/bin/site-tool", b"#!/bin/sh\n", mode=0o755),
        hardlink("root/usr/bin/st", "root/usr/bin/stool"),
        hardlink("root/usr/bin/s", "./root/usr/bin/st"),
    ]
    recipe = unpack(packed(DESCRIPTION, *members), tmp_path)
    assert [str((recipe / "root/usr/bin" / name).readlink()) for name in ("stool", "st", "s")] == ["site-tool"] * 3


@pytest.mark.parametrize("target", ["root/gone", "root", "root/later"])
def test_hard_link_to_no_file(tmp_path: Path, target: str) -> None:
    """The reason names the target."""
    with pytest.raises(InputError, match=f"it is a hard link to '{target}', which is not a file before it"):
        unpack(packed(DESCRIPTION, folder("root", 0o755), hardlink("root/x", target), member("root/later")), tmp_path)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """They keep their bytes in archives of tar and of `ims recipes push`, and decide the digest."""
    source, name = tmp_path / "source", b"caf\xe9\xff"
    (source / "root").mkdir(parents=True)
    (source / "config.xml").write_bytes(DESCRIPTION[1])
    (source / "root" / os.fsdecode(name)).write_text("x")
    (source / "root" / os.fsdecode(name)).chmod(0o440)
    (source / "root/link").symlink_to(os.fsdecode(name))
    archive.pack(source, tmp_path / "made.tar.gz")
    digests = {archive.digest(unpack((tmp_path / "made.tar.gz").read_bytes(), tmp_path))}
    for form in ("gnu", "posix"):
        command = ["tar", "-C", str(source), f"--format={form}", "-cz", "."]
        recipe = unpack(subprocess.run(command, capture_output=True, check=True).stdout, tmp_path)
        part = os.fsencode(image_part(recipe) / "root")
        assert sorted(os.listdir(part)) == [name, b"link"]  # noqa: PTH208
        assert os.readlink(part + b"/link") == name  # noqa: PTH115
        assert mode(Path(os.fsdecode(part + b"/" + name))) == 0o440
        digests.add(archive.digest(unpack((tmp_path / "made.tar.gz").read_bytes(), tmp_path)))
    assert len(digests) == 1


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_sparse_file(tmp_path: Path, form: str) -> None:
    """It has its content. Its whole size counts."""
    recipe = unpack(sparse(form, 300_000), tmp_path)
    data = (recipe / "big").read_bytes()
    assert (len(data), data.strip(b"\0").count(b"x")) == (300_000, 2)
    assert data[150_000:150_001] + data[-1:] == b"xx"


@pytest.mark.parametrize("parts", [[(10, 5), (0, 5)], [(0, -5)], [(0, 10), (5, 10)], [(95, 10)], [(-5, 10)]], ids=repr)
def test_sparse_file_whose_parts_do_not_fit(tmp_path: Path, parts: list[tuple[int, int]]) -> None:
    """The parts of a sparse file follow each other."""
    info, content = member("big", b"x" * 100)
    numbers = ",".join(str(number) for part in parts for number in part)
    info.pax_headers = {"GNU.sparse.map": numbers, "GNU.sparse.size": "100", "GNU.sparse.name": "big"}
    with pytest.raises(InputError, match=r"does not fit to its size of 100|not a gzip tar archive"):
        unpack(packed(DESCRIPTION, (info, content)), tmp_path)


LITTER = [
    *("._config.xml", ".DS_Store", "__MACOSX/config.xml", "root/etc/sudoers.d/._operator", "root/Thumbs.db"),
    *("root/etc/sudoers.d/operator~", "root/etc/.motd.swp", "root/etc/#motd#", "root/etc/.#motd", "root/.DS_Store"),
]


def test_litter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """AppleDouble files and backups of editors are left out, and named in the log."""
    kept = member("root/etc/sudoers.d/operator", b"x")
    recipe = unpack(packed(DESCRIPTION, kept, *(member(name, b"\0\5\x16\7") for name in LITTER)), tmp_path)
    assert set(tree(recipe)) == {"config.xml", "root", "root/etc", "root/etc/sudoers.d", "root/etc/sudoers.d/operator"}
    (message,) = caplog.messages
    assert all(name in message for name in LITTER)


def test_litter_counts(tmp_path: Path) -> None:
    """What is left out cannot get around the limits."""
    with pytest.raises(InputError, match="more than 60 files"):
        unpack(packed(DESCRIPTION, *(member(f"._{n}") for n in range(60))), tmp_path)
    with pytest.raises(InputError, match=f"more than {1024 * 1024} bytes"):
        unpack(packed(DESCRIPTION, member("._x", bytes(1024 * 1024))), tmp_path)


def test_pack_leaves_litter_out(tmp_path: Path) -> None:
    """`ims recipes push` uploads none of it, and tells its caller."""
    for name in ("config.xml", *LITTER):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(DESCRIPTION[1])
    left_out = archive.pack(tmp_path, tmp_path.with_name("made.tar.gz"))
    with tarfile.open(tmp_path.with_name("made.tar.gz")) as made:
        assert set(made.getnames()) == {"config.xml", "root", "root/etc", "root/etc/sudoers.d"}
    assert {PurePosixPath(name).parts[0] for name in left_out} >= {"._config.xml", ".DS_Store", "__MACOSX"}


def test_reserved_name(tmp_path: Path) -> None:
    """An archive cannot bring the note of the modes with it."""
    with pytest.raises(InputError, match=f"'{ATTRIBUTES}' cannot be unpacked safely: the name is reserved"):
        unpack(packed(DESCRIPTION, member(ATTRIBUTES, b"{}")), tmp_path)


REPLACED = {
    "not JSON": "x",
    "nested": "[" * 100_000,
    "a list": "[]",
    "outside": '{"root/../../outside": [511, ""]}',
    "absolute": '{"/etc/passwd": [511, ""]}',
    "not below the overlay": '{"config.sh": [511, ""]}',
    "a mode with a type": '{"root/x": [33279, ""]}',
}


@pytest.mark.parametrize("text", REPLACED.values(), ids=REPLACED)
def test_replaced_note(tmp_path: Path, text: str) -> None:
    """A program in a sandbox may have replaced the note: it is checked, and nothing outside is changed."""
    (tmp_path / "outside").touch(0o600)
    recipe = unpack(packed(DESCRIPTION, member("root/x"), member("config.sh")), tmp_path)
    (recipe / ATTRIBUTES).write_text(text)
    with pytest.raises(InputError, match="was replaced"):
        apply_attributes(recipe, recipe)
    assert mode(tmp_path / "outside") == 0o600
    assert mode(recipe / "config.sh") == 0o644


def test_replaced_folder(tmp_path: Path) -> None:
    """Nor does a link in place of a folder or file of the overlay lead outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").touch(0o600)
    recipe = unpack(packed(DESCRIPTION, member("root/d/x", mode=0o440)), tmp_path)
    shutil.rmtree(recipe / "root/d")
    (recipe / "root/d").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        apply_attributes(recipe, recipe)
    assert mode(tmp_path / "outside/x") == 0o600


def test_all_bad_entries_are_named(tmp_path: Path) -> None:
    """The reason names up to 20 of them, whatever is wrong with them."""
    bad = [symlink(f"link{n}", "/etc") for n in range(9)]
    others = (member("../outside"), hardlink("hard", "gone"), member("pipe", kind=tarfile.FIFOTYPE))
    with pytest.raises(InputError) as caught:
        unpack(packed(DESCRIPTION, *bad, *others), tmp_path)
    assert caught.value.reason.count("cannot be unpacked safely") == 12
    with pytest.raises(InputError) as caught:
        unpack(packed(DESCRIPTION, *(member(f"../{n}") for n in range(50))), tmp_path)
    assert caught.value.reason.count("cannot be unpacked safely") == 20
