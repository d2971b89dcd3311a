"""Calls of functions that kiwi no longer has are found in scripts, with their lines."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from ims.recipes.legacy_functions import PROVIDED, REPLACEMENTS, find_legacy_functions, provided_functions


def found(tmp_path: Path, text: str) -> list[str]:
    """The problems of a `config.sh`."""
    (tmp_path / "config.sh").write_text(text)
    return list(find_legacy_functions(tmp_path))


def test_all_of_kiwi() -> None:
    """The table has exactly the functions that the installed kiwi ends with an error."""
    spec = find_spec("kiwi")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "config/functions.sh").read_text()
    assert set(re.findall(r"function (\w+) \{\n\tdeprecated|function (\w+) \{\n    deprecated", text)) == {
        ("", name) for name in REPLACEMENTS
    }


def test_script_of_an_old_recipe(tmp_path: Path) -> None:
    """Each call is named with its line and what replaces it; functions that kiwi still has are not."""
    script = "#!/bin/bash\ntest -f /.kconfig && . /.kconfig\nbaseMount\nsuseSetupProduct\nsuseConfig\nbaseCleanMount\n"
    problems = found(tmp_path, script)
    assert [problem.partition(": kiwi")[0] for problem in problems] == [f"config.sh, line {n}" for n in (3, 5, 6)]
    assert problems[0] == "config.sh, line 3: kiwi no longer has baseMount: remove the line: kiwi does it"
    assert "suseConfig" in problems[1]
    assert "timezone" in problems[1]


def test_provided_functions(tmp_path: Path) -> None:
    """They warn and succeed, whatever their arguments; a recipe that calls only these can be pushed."""
    script = tmp_path / "config.sh"
    script.write_text(f"set -e\n{provided_functions()}" + "".join(f"{name} --all x\n" for name in PROVIDED))
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stderr.splitlines()] == list(PROVIDED)
    others = REPLACEMENTS.keys() - PROVIDED.keys()
    assert list(find_legacy_functions(tmp_path, others)) == []
    assert len(found(tmp_path, "suseConfig\nsuseRemoveYaST\n")) == 2
    assert len(list(find_legacy_functions(tmp_path, others))) == 1


CALLS = [
    *("true && suseConfig", "if ! suseConfig; then", "  suseConfig # comment", "(suseConfig)", "x=$(suseConfig)"),
    *("[ -x /x ] || suseConfig", "do suseConfig", "suseConfig --force >/dev/null", "{ suseConfig; }", "`suseConfig`"),
]


@pytest.mark.parametrize("line", CALLS)
def test_call(tmp_path: Path, line: str) -> None:
    """Wherever a command begins."""
    assert len(found(tmp_path, f"#!/bin/bash\n{line}\n")) == 1


NO_CALLS = [
    *("# suseConfig", "echo 'running suseConfig'", "my-suseConfig", "suseConfig-old", "suseConfig2", "$suseConfig"),
    *("suseConfig() { true; }\nsuseConfig", "function suseConfig {\n true\n}\nsuseConfig", "grep suseConfig /x"),
    *("suseConfig=1", "echo x # ; suseConfig"),
]


@pytest.mark.parametrize("line", NO_CALLS)
def test_no_call(tmp_path: Path, line: str) -> None:
    """Words in texts, other commands, and functions that the script defines itself."""
    assert found(tmp_path, f"#!/bin/bash\n{line}\n") == []


def test_other_scripts(tmp_path: Path) -> None:
    """All scripts that kiwi runs are read; a script that is no text is no problem."""
    (tmp_path / "images.sh").write_text("suseConfig\n")
    (tmp_path / "post_bootstrap.sh").write_bytes(b"\xff\nbaseMount\n")
    assert [problem.split(":")[0] for problem in find_legacy_functions(tmp_path)] == [
        *("images.sh, line 1", "post_bootstrap.sh, line 2"),
    ]
