"""Templates in recipes: what is rendered, and what templates cannot do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ims.errors import InputError
from ims.recipes import template as templates
from ims.recipes.template import MAX_TEMPLATE, TEMPLATE_LIST, render

VARIABLES = {"MIRROR": "https://mirror.example/debian", "SUITE": "bookworm"}


def recipe(folder: Path, *, listed: str = "template_files: [config.xml]", **files: str) -> Path:
    """A recipe folder. The names of files have `_` in place of the dot."""
    folder.mkdir(exist_ok=True)
    (folder / TEMPLATE_LIST).write_text(listed)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def test_listed_files_are_rendered_and_no_others(tmp_path: Path) -> None:
    """Line ends and modes are kept."""
    folder = recipe(
        tmp_path,
        listed="template_files:\n  - config.xml\n  - config.sh\n",
        config_xml='<source path="{{ MIRROR }}"/>\n',
        config_sh="{% if SUITE == 'bookworm' %}echo {{ SUITE }}{% endif %}",
        images_sh="{{ MIRROR }}",
    )
    (folder / "config.sh").chmod(0o755)
    assert render(folder, VARIABLES) == ["config.xml", "config.sh"]
    assert (folder / "config.xml").read_text() == '<source path="https://mirror.example/debian"/>\n'
    assert (folder / "config.sh").read_text() == "echo bookworm"
    assert (folder / "config.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "images.sh").read_text() == "{{ MIRROR }}"


def test_values_are_not_templates(tmp_path: Path) -> None:
    """A value of the dictionary is inserted as it is."""
    folder = recipe(tmp_path, config_xml="{{ MIRROR }}")
    render(folder, {"MIRROR": "{{ SUITE }}<&"})
    assert (folder / "config.xml").read_text() == "{{ SUITE }}<&"


def test_keys_that_no_template_can_name(tmp_path: Path) -> None:
    """A variable with such a key does no harm."""
    folder = recipe(tmp_path, config_xml="{{ MIRROR }}")
    render(folder, {"MIRROR": "x", "a-b": "", "a.b": "", "self": "", "{{ 1 }}": "", "größe": ""})
    assert (folder / "config.xml").read_text() == "x"


@pytest.mark.parametrize("listed", [None, "", "---\n", "template_files: []", "other: 1"])
def test_recipe_without_templates_needs_no_dictionary(tmp_path: Path, listed: str | None) -> None:
    """Nothing is rendered, even if there is a dictionary."""
    folder = recipe(tmp_path, config_xml="{{ MIRROR }}")
    (folder / TEMPLATE_LIST).unlink() if listed is None else (folder / TEMPLATE_LIST).write_text(listed)
    assert render(folder, {}) == []
    assert render(folder, VARIABLES) == []
    assert (folder / "config.xml").read_text() == "{{ MIRROR }}"


def test_templates_without_a_dictionary_are_refused(tmp_path: Path) -> None:
    """The error names the templates and what is missing."""
    with pytest.raises(InputError, match=r"templates \(config\.xml\) but its record has no template_dictionary"):
        render(recipe(tmp_path, config_xml="{{ MIRROR }}"), {})


BAD_TEMPLATES = {
    "undefined variable": ("{{ MIRORR }}", "'MIRORR' is undefined"),
    "undefined in a loop": ("{% for x in MIRORR %}x{% endfor %}", "'MIRORR' is undefined"),
    "undefined in an order": ("{% if MIRORR < 5 %}x{% endif %}", "'MIRORR' is undefined"),
    "undefined in a joined text": ("{{ MIRROR ~ MIRORR }}", "'MIRORR' is undefined"),
    "attribute of an undefined one": ("{% if MIRORR.name %}x{% endif %}", "'MIRORR' is undefined"),
    "broken syntax": ("{{ MIRROR", "unexpected end of template"),
    "unknown tag": ("{% nonsense %}", "nonsense"),
    "no such filter": ("{{ MIRROR | nonsense }}", "nonsense"),
    "file of the machine": ("{% include '/etc/passwd' %}", "'/etc/passwd', which is not a file of the recipe"),
    "file above the recipe": ("{% include '../outside' %}", "'../outside', which is not a file of the recipe"),
    "import of a file above": ("{% from '../outside' import x %}", "'../outside', which is not a file of the recipe"),
    "file that does not exist": ("{% include 'gone.j2' %}", "'gone.j2', which is not a file of the recipe"),
    "folder of the recipe": ("{% include '.' %}", "'.', which is not a file of the recipe"),
    "no name of a file": ("{% include 'a\0b' %}", "which is not a file of the recipe"),
    "file without a name": ("{% include MIRORR %}", "config.xml cannot be rendered"),
    "itself": ("{% include 'config.xml' %}", "config.xml cannot be rendered"),
    "its own class": ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__'"),
    "its own class by filter": ("{{ ''|attr('__class__') }}", "access to attribute '__class__'"),
    "a function's globals": ("{{ cycler.__init__.__globals__ }}", "access to attribute '__init__'"),
    "the frame of a generator": ("{{ (x for x in []).gi_frame }}", "config.xml cannot be rendered"),
    "format string": ("{{ '{0.__class__}'.format(MIRROR) }}", "access to attribute '__class__'"),
    "a long loop": ("{% for x in range(10**9) %}{% endfor %}", "Range too big"),
    "division by zero": ("{{ 1 // 0 }}", "config.xml cannot be rendered"),
    "wrong types": ("{{ MIRROR + 1 }}", "config.xml cannot be rendered"),
    "wrong arguments": ("{{ MIRROR.split(1, 2, 3) }}", "config.xml cannot be rendered"),
    "endless recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "config.xml cannot be rendered"),
}


@pytest.mark.parametrize(("template", "reason"), BAD_TEMPLATES.values(), ids=BAD_TEMPLATES)
def test_bad_template_is_refused(tmp_path: Path, template: str, reason: str) -> None:
    """The error names the file and the reason. The file is not changed."""
    folder = recipe(tmp_path, config_xml=template)
    with pytest.raises(InputError) as caught:
        render(folder, VARIABLES)
    assert "the template config.xml" in caught.value.reason
    assert reason in caught.value.reason
    assert (folder / "config.xml").read_text() == template


TESTS = {
    "{% if OTHER %}a{% else %}b{% endif %}": "b",
    "{% if not OTHER %}a{% endif %}": "a",
    "{% if OTHER == 'x' or OTHER in ['x'] or 'x' in OTHER %}a{% else %}b{% endif %}": "b",
    "{% if OTHER != 'x' %}a{% endif %}": "a",
    "{{ 'a' if OTHER and OTHER.name else SUITE }}": "bookworm",
    "{% if OTHER is defined %}a{% else %}{{ OTHER | default('c') }}{% endif %}": "c",
}


@pytest.mark.parametrize("template", TESTS)
def test_variable_that_is_not_given(tmp_path: Path, template: str) -> None:
    """It is false in a test, and has the default value."""
    folder = recipe(tmp_path, config_xml=template)
    render(folder, VARIABLES)
    assert (folder / "config.xml").read_text() == TESTS[template]


def test_includes(tmp_path: Path) -> None:
    """Templates include, extend and import files of the recipe, which may be templates themselves, in any order."""
    folder = recipe(
        tmp_path / "recipe",
        listed="template_files: [part.xml, config.xml]",
        config_xml="{% include 'part.xml' %}{% include 'parts/b.j2' %}{% import 'parts/m.j2' as m %}{{ m.twice('x') }}",
        part_xml="<a>{{ MIRROR }}</a>{% include 'gone' ignore missing %}",
    )
    (folder / "parts").mkdir()
    (folder / "parts/b.j2").write_text("{% extends 'parts/base.j2' %}{% block b %}{{ SUITE }}{% endblock %}")
    (folder / "parts/base.j2").write_text("<b>{% block b %}{% endblock %}</b>")
    (folder / "parts/m.j2").write_text("{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}")
    render(folder, VARIABLES)
    assert (folder / "part.xml").read_text() == "<a>https://mirror.example/debian</a>"
    assert (folder / "config.xml").read_text() == "<a>https://mirror.example/debian</a><b>bookworm</b>xx"
    assert (folder / "parts/base.j2").read_text() == "<b>{% block b %}{% endblock %}</b>"


def test_included_link(tmp_path: Path) -> None:
    """A link of the overlay is a path of the image: no file of the builder is included through it."""
    (tmp_path / "secret").write_text("secret")
    folder = recipe(tmp_path / "recipe", config_xml="{% include 'root/x' %}")
    (folder / "root").mkdir()
    (folder / "root/x").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="'root/x', which is not a file of the recipe"):
        render(folder, VARIABLES)


def test_large_include(tmp_path: Path) -> None:
    """It is not read."""
    folder = recipe(tmp_path, config_xml="{% include 'big' %}", big=" " * (MAX_TEMPLATE + 1))
    with pytest.raises(InputError, match="'big', which is larger than"):
        render(folder, VARIABLES)


def test_error_lists_the_defined_variables(tmp_path: Path) -> None:
    """Their values may be secret, but their names are not."""
    with pytest.raises(InputError) as caught:
        render(recipe(tmp_path, config_xml="{{ MIRORR }}"), VARIABLES)
    assert "MIRROR, SUITE" in caught.value.hint
    assert VARIABLES["MIRROR"] not in str(caught.value)


NOT_A_FILE = {
    "missing": "gone.xml",
    "absolute": "/etc/hostname",
    "above": "../outside.txt",
    "above, roundabout": "root/../../outside.txt",
    "a link out of the recipe": "link",
    "below a link out of the recipe": "up/outside.txt",
    "a folder": "root",
    "the recipe": ".",
    "empty": "",
    "no name at all": '"a\\0b"',
    "name too long": "n" * 300,
}


@pytest.mark.parametrize("name", NOT_A_FILE.values(), ids=NOT_A_FILE)
def test_file_outside_the_recipe_is_refused(tmp_path: Path, name: str) -> None:
    """It is neither read nor written, neither by its path nor through a link."""
    outside = tmp_path / "outside.txt"
    outside.write_text("{{ MIRROR }}")
    folder = recipe(tmp_path / "recipe", listed=f"template_files: [{name or repr(name)}]")
    (folder / "root").mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "up").symlink_to("..")
    with pytest.raises(InputError, match="not a file of the recipe"):
        render(folder, VARIABLES)
    assert outside.read_text() == "{{ MIRROR }}"


@pytest.mark.parametrize(
    "listed", ["template_files: config.xml", "template_files: [1, {}]", "[config.xml]", "a: b: c", "\x00", "!!python/x"]
)
def test_list_that_cannot_be_read_is_refused(tmp_path: Path, listed: str) -> None:
    """The error states the required content."""
    with pytest.raises(InputError, match=f"{TEMPLATE_LIST} cannot be read.*YAML with a list"):
        render(recipe(tmp_path, listed=listed, config_xml=""), VARIABLES)


def test_binary_template_is_refused(tmp_path: Path) -> None:
    """Templates are text."""
    folder = recipe(tmp_path)
    (folder / "config.xml").write_bytes(b"\xff\xfe{{ MIRROR }}")
    with pytest.raises(InputError, match=r"config\.xml cannot be rendered.*utf-8"):
        render(folder, VARIABLES)


def test_large_template_is_refused(tmp_path: Path) -> None:
    """It is not read."""
    with pytest.raises(InputError, match=f"larger than {MAX_TEMPLATE} bytes"):
        render(recipe(tmp_path, config_xml=" " * (MAX_TEMPLATE + 1)), VARIABLES)


EXPENSIVE = {
    "nested ranges": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a large power": "{{ 9 ** (9 ** 9) }}",
    "a large text": "{{ 'x' * 10 ** 9 }}",
    "a large list": "{{ [1] * 10 ** 9 }}",
    "endless output": "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "deep nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
}


@pytest.mark.parametrize("template", EXPENSIVE.values(), ids=EXPENSIVE)
def test_expensive_template_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    """Its time, memory and output are limited. The file is not changed."""
    monkeypatch.setattr(templates, "PROCESSOR_SECONDS", 1)
    folder = recipe(tmp_path, config_xml=template)
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"config\.xml\)? cannot be rendered"):
        render(folder, VARIABLES)
    assert time.monotonic() - begin < 30
    assert (folder / "config.xml").read_text() == template


def test_template_that_only_waits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a template takes is limited, too."""
    monkeypatch.setattr(templates, "SECONDS", 1)
    with pytest.raises(InputError, match="cannot be rendered with 10 s of processor time, 1 s and"):
        render(recipe(tmp_path, config_xml=EXPENSIVE["nested ranges"]), VARIABLES)


def test_templates_see_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that renders them has none in its environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    shown = tmp_path / "environment"
    (tmp_path / "sitecustomize.py").write_text(f"import os\nopen({str(shown)!r}, 'w').write(repr(dict(os.environ)))\n")
    render(recipe(tmp_path / "recipe", config_xml="{{ SUITE }}"), VARIABLES)
    assert "planted" not in shown.read_text()
