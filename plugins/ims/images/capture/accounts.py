"""Users and groups that were added, changed or removed, as commands. Passwords are secrets and never part of them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ims.images.capture.script import Section
from ims.images.root import printable, read_inside, resolve_inside

ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
"""The files that the commands change."""
MAX_BYTES = 4 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_ID = re.compile(r"[0-9]{1,10}")
_REASON = "passwords are secrets: set it again"
_SHOWN = 100
_USERADD = ("usr/sbin/useradd", "sbin/useradd")
# useradd must not write /etc/subuid and /etc/subgid: they are files like others.
_NO_SUBORDINATES = ("-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0")


class User(NamedTuple):
    """A line of /etc/passwd."""

    name: str
    uid: str
    gid: str
    comment: str
    home: str
    shell: str


class Group(NamedTuple):
    """A line of /etc/group."""

    name: str
    gid: str
    members: tuple[str, ...]


def added_accounts(lower: Path, merged: Path) -> Section:
    """The commands that add and change users and groups, and the passwords that were changed.

    They come first: if a script of a package needs an account, it finds the one with the right ids.
    """
    section = Section("Users and groups")
    groups, old_groups = _groups(merged), _groups(lower)
    users, old_users = _users(merged), _users(lower)
    for group in groups.values():
        _add_group(section, group, old_groups.get(group.name))
    for user in users.values():
        _add_user(section, user, old_users.get(user.name))
    for group in groups.values():
        _change_members(section, group, old_groups.get(group.name), users.keys())
    _without_program(section, merged)
    for file, known in (("passwd", users.keys()), ("group", groups.keys())):
        _unusual_lines(section, lower, merged, file, known)
    _passwords(section, lower, merged)
    return section


def removed_accounts(lower: Path, merged: Path) -> Section:
    """The commands that remove users and groups. They come last: a script of a package may have removed them."""
    section = Section("Removed users and groups")
    for kind, program, before, after in (
        ("passwd", "userdel", _users(lower).keys(), _users(merged).keys()),
        ("group", "groupdel", _groups(lower).keys(), _groups(merged).keys()),
    ):
        for name in sorted(before - after):
            section.commands.append(f"! is_known /etc/{kind} {name} || {program} {name}")
    _without_program(section, merged)
    return section


def _add_group(section: Section, group: Group, old: Group | None) -> None:
    if old is None:
        section.commands.append(f"is_known /etc/group {group.name} || groupadd -g {group.gid} {group.name}")
    elif old.gid != group.gid:
        section.add("groupmod", "-g", group.gid, group.name)


def _add_user(section: Section, user: User, old: User | None) -> None:
    fields = ("-u", user.uid, "-g", user.gid, "-c", user.comment, "-d", user.home, "-s", user.shell, user.name)
    if old is None:
        add = Section("")
        add.add("useradd", "-M", *_NO_SUBORDINATES, *fields)
        section.commands.append(f"is_known /etc/passwd {user.name} || {add.commands[0]}")
    elif old != user:
        section.add("usermod", *fields)


def _change_members(section: Section, group: Group, old: Group | None, users: Collection[str]) -> None:
    before = old.members if old is not None else ()
    for name in group.members:
        if name not in before and name in users:
            section.add("usermod", "-a", "-G", group.name, name)
    for name in before:
        if name not in group.members and name in users:
            section.add("gpasswd", "-d", name, group.name)


def _without_program(section: Section, merged: Path) -> None:
    """If the image has no useradd, nothing can be done."""
    if section.commands and not any(resolve_inside(merged, name) for name in _USERADD):
        section.leave_out("/etc/passwd, /etc/group", "the image has no useradd")
        section.commands.clear()


def _unusual_lines(section: Section, lower: Path, merged: Path, file: str, known: Collection[str]) -> None:
    """Leave out new lines that are not those of an account, or have fields that no command takes."""
    for line in sorted(set(_lines(merged, f"etc/{file}")) - set(_lines(lower, f"etc/{file}"))):
        if (name := line.partition(":")[0]) not in known and line:
            section.leave_out(f"/etc/{file}: {printable(name[:_SHOWN])}", "not the usual line of an account")


def _passwords(section: Section, lower: Path, merged: Path) -> None:
    before, after = _fields(lower, "etc/shadow"), _fields(merged, "etc/shadow")
    for name, fields in after.items():
        new = fields[0] if fields else ""
        old = next(iter(before.get(name, ("!",))), "")
        if new != old and not (new.startswith(("!", "*")) and old.startswith(("!", "*"))):
            section.leave_out(f"/etc/shadow: the password of {name}", _REASON)


def _users(root: Path) -> dict[str, User]:
    found = {}
    for name, fields in _fields(root, "etc/passwd").items():
        if len(fields) == 6 and _ID.fullmatch(fields[1]) and _ID.fullmatch(fields[2]):
            found[name] = User(name, *fields[1:])
    return found


def _groups(root: Path) -> dict[str, Group]:
    found = {}
    for name, fields in _fields(root, "etc/group").items():
        if len(fields) == 3 and _ID.fullmatch(fields[1]):
            found[name] = Group(name, fields[1], tuple(filter(None, fields[2].split(","))))
    return found


def _fields(root: Path, file: str) -> dict[str, list[str]]:
    """The fields of each line by its first one. Lines with a name that no account has are left out."""
    lines = (line.split(":") for line in _lines(root, file) if line.isprintable())
    return {name: fields for name, *fields in lines if _NAME.fullmatch(name)}


def _lines(root: Path, file: str) -> list[str]:
    return (read_inside(root, file, MAX_BYTES) or "").split("\n")
