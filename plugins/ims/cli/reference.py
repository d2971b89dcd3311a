"""`python -m ims.cli.reference` prints docs/cli.md, which is generated from the commands."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from ims.cli.app import app

_HEAD = """\
# The command line

`make docs` generates this page from `plugins/ims/cli`. `make setup` installs `ims` as
`.venv/bin/ims`. Add it to your path:

```bash
export PATH="$PWD/.venv/bin:$PATH"
eval "$(make -s env)"   # on another machine: ims auth login --url https://host/apis/ims
ims --install-completion
```

The commands and options are those of `cray ims`, so its scripts run with `ims` in its place.

- **Names**: every command that takes an id also takes a name, which means the newest record of that
  name, or at least four of the first characters of the id, if no other id begins with them.
- **Output**: tables. `-o json` and `-o yaml`, before or after the command, print what the API
  returned, `-o name` only ids, one per line, and `-o wide` tables with more columns. `-o` is short
  for `--format`. Progress and notes go to standard error.
- **Exit codes**: 0 success; 1 the job failed; 2 wrong use, or the service refused the request; 69
  the service or S3 does not answer; 70 a defect in `ims`; 77 not logged in, or the login has
  expired; 130 interrupted with Ctrl-C.
- **Login**: `IMS_URL` and `IMS_TOKEN`, or else the login of `ims auth login`, which is kept in
  `$XDG_CONFIG_HOME/ims/token` (mode 0600) and sent only to the service that issued it. Certificates
  are verified against the system's certificate authorities (or those in `SSL_CERT_FILE`) and the
  one in `IMS_CA_CERTIFICATE`.
- **S3**: `recipes push` and `images pull` use `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` and
  `AWS_SECRET_ACCESS_KEY` if all three are set, or else temporary credentials from the service.
"""


def documentation() -> str:
    """Return the commands as a Markdown page."""
    return "\n".join([_HEAD, *_sections(get_command(app), "ims")])


def _sections(command: Any, name: str) -> list[str]:
    """Return a section for each command below `command` and for each group at the top level."""
    if hasattr(command, "commands"):
        inner = [part for key, below in sorted(command.commands.items()) for part in _sections(below, f"{name} {key}")]
        return [f"## {name}\n\n{command.help}\n", *inner] if name.count(" ") == 1 else inner
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    records = [record for param in command.get_params(context) if (record := param.get_help_record(context))]
    shown = [record for record in records if not record[0].endswith("--help") and "--format" not in record[0]]
    rows = ["| `{}` | {} |".format(*(text.replace("|", r"\|") for text in record)) for record in shown]
    table = "\n".join(["| | |", "| --- | --- |", *rows, ""]) if rows else ""
    return [f"### {name}\n\n`{name} {usage}`\n\n{command.help}\n", *([table] if table else [])]


if __name__ == "__main__":
    print(documentation(), end="")
