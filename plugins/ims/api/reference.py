"""`python -m ims.api.reference` prints docs/api.md, which is generated from the OpenAPI document."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import redirect_stdout
from typing import Any

INTRODUCTION = """\
# The API

`make docs` generates this page from the description of the API, `/apis/ims/openapi.json`.
`/apis/ims/docs` shows the same description with forms to try it out. All paths are below
`/apis/ims`.

{description}
Every path except `/version` and `/healthz/*` answers 401 without a valid token, 403 without the
permission or for a field that only the service sets, 400 for an unknown query parameter or an empty
body, 413 for a body of more than 1 MiB, 415 for a body that is not JSON, and 503 while S3 or the
database does not answer. The operations below do not repeat these answers. Of version 2, only the
operations that differ from version 3 are listed. `*` marks required fields.

`PUT /apis/sts/token` is another service: see [Coming from IMS](coming-from-ims.md).
"""
_COMMON = {"400", "401", "403", "413", "415", "503"}


def page(document: dict[str, Any]) -> str:
    """Returns the document as Markdown: operations by path, followed by the schemas."""
    parts = [INTRODUCTION.format(description=document["info"]["description"])]
    parts.append("## Operations\n")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if not path.startswith("/v2/") or (method == "delete" and "/jobs" not in path):
                parts.append(_operation(method, path, operation))
    parts.append("## Schemas\n")
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "\n".join(parts).rstrip() + "\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f"### {method.upper()} {path}\n", f"{operation['description']}\n"]
    for parameter in operation.get("parameters", ()):
        if parameter["in"] != "path":
            said = f": {parameter['description']}" if "description" in parameter else ""
            kind = "header" if parameter["in"] == "header" else "query"
            lines.append(f"- {kind} `{parameter['name']}` ({_type(parameter['schema'])}){said}")
    if "requestBody" in operation:
        lines.append(f"- body: {_type(operation['requestBody']['content']['application/json']['schema'])}")
    answers = {code: answer for code, answer in operation["responses"].items() if code not in _COMMON}
    lines.append(f"- answers: {', '.join(_answer(code, answer) for code, answer in answers.items())}")
    return "\n".join(lines) + "\n"


def _answer(code: str, answer: dict[str, Any]) -> str:
    content: dict[str, Any] = answer.get("content", {})
    if not code.startswith("2") or not content:
        return code
    (media, body), *_ = content.items()
    what = _type(body["schema"]) if media == "application/json" else media
    when = ", with `dry_run`" if answer.get("description") == "With dry_run" else ""
    return f"{code} ({what}{when})"


def _schema(name: str, schema: dict[str, Any]) -> str:
    lines = [f"### {name}\n"]
    if "description" in schema:
        lines.append(f"{schema['description']}\n")
    if "properties" not in schema:
        return "\n".join([*lines, f"{_type(schema)}\n"])
    lines += ["| Field | Type | |", "| --- | --- | --- |"]
    for field, value in schema["properties"].items():
        star = "\\*" if field in schema.get("required", ()) else ""
        said = value.get("description", "").replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{field}`{star} | {_type(value)} | {said} |")
    return "\n".join(lines) + "\n"


def _type(schema: dict[str, Any]) -> str:
    """Returns a short description of a schema."""
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices:
        return " or ".join(_type(choice) for choice in choices)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("additionalProperties") is True:
        return "mapping to anything"
    if schema.get("additionalProperties"):
        return f"mapping to {_type(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type") or "anything")


def main() -> None:
    """Prints the page."""
    with tempfile.TemporaryDirectory() as home, redirect_stdout(sys.stderr):
        os.environ.setdefault("AIRFLOW_HOME", home)  # where Airflow would write its configuration
        from ims.api.app import build_app

        text = page(build_app().openapi())
    print(text, end="")


if __name__ == "__main__":
    main()
