"""Checks a recipe before it is uploaded, and finds everything that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ims.errors import ConfigurationError, InputError
from ims.recipes.archive import unpack
from ims.recipes.expansion import KIWI
from ims.recipes.expansion.xml import read_xml
from ims.recipes.legacy_functions import PROVIDED, REPLACEMENTS, find_legacy_functions
from ims.recipes.reading import RenderedRecipe, read_recipe
from ims.recipes.secrets import secret_name
from ims.recipes.template import MAX_TEMPLATE, render, template_names
from ims.recipes.unpacking import BadEntriesError

_PLACEHOLDER = "ims-no-value-of-"
_OPTIONAL = {"default", "d", "defined", "undefined"}


@dataclass(frozen=True)
class Built:
    """What of a recipe is built: an architecture and profiles. Without profiles, those that the description imports."""

    arch: str = "x86_64"
    profiles: Sequence[str] = ()


@dataclass
class Findings:
    """What is wrong with a recipe, and the recipe as kiwi reads it: None if it cannot be read or kiwi is missing."""

    problems: list[str] = field(default_factory=list)
    recipe: RenderedRecipe | None = None


def find_problems(
    folder: Path,
    archive: Path,
    variables: Mapping[str, str],
    built: Built,
    *,
    max_bytes: int,
    max_files: int,
) -> Findings:
    """What would make a build of a recipe fail: one sentence for each problem, with file and line where they are known.

    `archive` is the packed `folder`. The service checks everything again; only it knows the values of secrets. Whether
    repositories have the packages is not checked here: see `ims.cli.pushing`.
    """
    values, problems = _plain_values(variables)
    found = Findings([*problems, *find_legacy_functions(folder, REPLACEMENTS.keys() - PROVIDED.keys())])
    with TemporaryDirectory() as temporary:
        unpacked = Path(temporary) / "recipe"
        try:
            unpack(archive, unpacked, max_bytes=max_bytes, max_files=max_files)
        except InputError as error:
            entries = error.problems if isinstance(error, BadEntriesError) else [str(error)]
            found.problems += [*entries, *_missing_variables(folder, values).values()]
        else:
            _check_description(found, unpacked, values, built)
    return found


def _plain_values(variables: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables with a word in place of each secret, and the references that are invalid."""
    values, problems = {}, []
    for name, value in variables.items():
        try:
            values[name] = value if secret_name(value) is None else "secret"
        except InputError as error:
            values[name] = "secret"
            problems.append(f"the template variable {name}: {error}")
    return values, problems


def _check_description(found: Findings, unpacked: Path, values: Mapping[str, str], built: Built) -> None:
    """Add the problems of templates and of the description, which is rendered in place."""
    missing: dict[str, str] = {}
    try:
        render(unpacked, values)
    except InputError as error:
        missing = _missing_variables(unpacked, values)
        found.problems += missing.values() or [str(error)]
        if not missing:
            return
        try:
            render(unpacked, {**values, **{name: f"{_PLACEHOLDER}{name}" for name in missing}})
        except InputError as other:
            found.problems.append(str(other))
            return
    try:
        read_xml(unpacked)
        if KIWI.exists():
            recipe = read_recipe(unpacked, built.arch, built.profiles)
            found.recipe = None if missing else recipe
    except (InputError, ConfigurationError) as error:
        if _PLACEHOLDER not in str(error):
            found.problems.append(str(error))


def _missing_variables(folder: Path, values: Mapping[str, str]) -> dict[str, str]:
    """The variables that templates need and that have no value, with a sentence for each.

    A variable that a template tests, or gives a default, is optional. Templates that cannot be read are left out, and
    so are the files that they include: rendering reports them.
    """
    missing: dict[str, str] = {}
    with suppress(InputError):
        for template in template_names(folder):
            for name, line in _variables(folder / template).items():
                if name not in values:
                    where = f"{template}, line {line}"
                    missing.setdefault(
                        name, f"{where}: the template variable {name} has no value: set --var {name}=VALUE"
                    )
    return missing


def _variables(template: Path) -> dict[str, int]:
    """The variables that a template needs, with the first line of each. Empty if it cannot be read."""
    try:
        if template.stat().st_size > MAX_TEMPLATE:
            return {}
        tree = ImmutableSandboxedEnvironment().parse(template.read_text())
        names = meta.find_undeclared_variables(tree)
    except (OSError, ValueError, TemplateSyntaxError, RecursionError):
        return {}
    guards = (node for node in tree.find_all((nodes.Test, nodes.Filter)) if node.name in _OPTIONAL)
    optional = {node.node.name for node in guards if isinstance(node.node, nodes.Name)}
    tests = [node.test for node in tree.find_all(nodes.If)] + [node.test for node in tree.find_all(nodes.CondExpr)]
    optional |= {name.name for test in tests for name in _names(test)}
    lines: dict[str, int] = {}
    for node in tree.find_all(nodes.Name):
        if node.name in names - optional:
            lines.setdefault(node.name, node.lineno)
    return lines


def _names(expression: nodes.Node) -> list[nodes.Name]:
    """The variables of an expression."""
    own = [expression] if isinstance(expression, nodes.Name) else []
    return [*own, *expression.find_all(nodes.Name)]
