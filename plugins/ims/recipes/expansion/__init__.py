"""Reads a description as kiwi sees it: kiwi resolves includes, raises the schema and decides about profiles.

Whatever needs to know what a recipe says reads the result. Descriptions that are too old for kiwi are first converted
by kiwi 9, which is installed apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lxml import etree
from pydantic import BaseModel, ConfigDict

from ims.errors import ConfigurationError, InputError
from ims.recipes.archive import CONFIG, description_file
from ims.recipes.expansion.selection import select
from ims.recipes.expansion.xml import parse, read_xml
from ims.recipes.kiwi_log import schema_reason

KIWI = Path(sys.executable).with_name("kiwi-ng")
KIWI_9 = Path(sys.prefix) / "kiwi9" / "bin" / "kiwi-ng"
OLDEST_SCHEMA = (7, 4)
"""The first schema version that kiwi itself reads."""
MAX_TEXT = 2 * 1024 * 1024
CHECK_SECONDS = 120
"""How long kiwi may take."""
_QUIET = ("--loglevel", "50")
"""kiwi prints the document and nothing else."""


class Expansion(BaseModel):
    """What of a description applies to a build, as kiwi sees it.

    `file` is the name of the description in the recipe. `text` is a complete description: it has the type that is
    built and, of the sections, those that apply to the profiles and the architecture. It contains logins.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    text: str

    @property
    def root(self) -> etree._Element:
        """The root element of the description."""
        return parse(self.text.encode(), self.file)


def expand(folder: Path, arch: str, profiles: Sequence[str] = ()) -> Expansion:
    """Have kiwi check and expand the description of a rendered recipe.

    Without `profiles`, those that the description imports are built.
    Raises InputError with kiwi's message, or if kiwi takes more than CHECK_SECONDS.
    """
    name = description_file(folder)
    options = [part for profile in profiles for part in ("--profile", profile)]
    if _schema(read_xml(folder)) >= OLDEST_SCHEMA:
        answer = _run(KIWI, folder, name, ["--target-arch", arch, *options])
    else:
        with TemporaryDirectory() as converted:
            (Path(converted) / CONFIG).write_text(_document(_run(_kiwi_9(name), folder, name, options))[1])
            answer = _run(KIWI, Path(converted), CONFIG, ["--target-arch", arch, *options])
    settings, document = _document(answer)
    root = parse(document.encode(), name)
    select(root, arch, [part for part in settings["kiwi_env"]["kiwi_profiles"].split(",") if part])
    text = etree.canonicalize(etree.tostring(root, encoding="unicode"), strip_text=True)
    if len(text) > MAX_TEXT:
        raise InputError(f"{name} and what it includes have {len(text)} characters, more than {MAX_TEXT}")
    return Expansion(file=name, text=text)


def kiwi_9_version() -> str:
    """The version of kiwi 9; empty if it is not installed."""
    found = (KIWI_9.parents[1] / "lib").glob("python*/site-packages/kiwi-*.dist-info")
    return next((path.name for path in found), "")


def _schema(root: etree._Element) -> tuple[int, ...]:
    """The schema version. That of a description without a valid one is the newest: kiwi says what is wrong."""
    try:
        return tuple(int(part) for part in root.get("schemaversion", "").split("."))
    except ValueError:
        return OLDEST_SCHEMA


def _kiwi_9(name: str) -> Path:
    if KIWI_9.exists():
        return KIWI_9
    raise ConfigurationError(
        f"the schema version of {name} is older than {'.'.join(map(str, OLDEST_SCHEMA))}, and kiwi 9, which converts "
        "it, is not installed",
        "Run: make setup",
    )


def _run(program: Path, folder: Path, name: str, options: Sequence[str]) -> str:
    """What kiwi says about the description in a folder. Raises the errors of `expand`."""
    info = ["image", "info", "--description", str(folder), "--print-xml"]
    if program == KIWI:
        info.append("--print-kiwi-env")
    with TemporaryDirectory() as temporary:

        def run(*levels: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [program, *levels, "--temp-dir", temporary, "--kiwi-file", name, *options, *info],
                capture_output=True,
                text=True,
                check=False,
                timeout=CHECK_SECONDS,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": temporary, "LANG": "C.UTF-8"},
            )

        try:
            if (done := run(*_QUIET)).returncode == 0:
                return done.stdout
            done = run("--debug")
        except subprocess.TimeoutExpired:
            raise InputError(f"kiwi-ng did not check {name} within {CHECK_SECONDS} s", "Make it simpler") from None
    raise InputError(f"kiwi-ng does not accept {name}: {schema_reason(done.stdout + done.stderr)}")


def _document(answer: str) -> tuple[dict[str, dict[str, str]], str]:
    """The JSON and the XML document in an answer of kiwi."""
    settings, end = json.JSONDecoder().raw_decode(answer)
    return settings, answer[end:].strip()
