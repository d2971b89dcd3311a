"""`python -m ims.cli.reference` prints docs/cli.md, made from the commands themselves."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from ims.cli.app import app

_HEAD = """\
# The command line

Made from `plugins/ims/cli` by `make docs`. `make setup` installs `ims` as `.venv/bin/ims`; put it into your path:

```bash
export PATH="$PWD/.venv/bin:$PATH"
eval "$(make -s env)"    # on the machine of the service; elsewhere: ims auth login --url https://host/apis/ims
ims --install-completion
```

The words and options are those of `cray ims`, so its scripts run with `ims` in place of it. Besides: names do where ids
are asked for, if only one record has the name.

- **Output**: tables; with `--format json` or `yaml`, before or after the command, what the API answered. Progress and
  notes go to standard error.
- **Exit codes**: 0; 1 the job failed; 2 wrong use, or the service refused; 69 the service or S3 does not answer;
  70 a defect of ours; 77 nobody is logged in, or not any more; 130 ended with Ctrl-C.
- **Access**: `IMS_URL` and `IMS_TOKEN`, else the login of `ims auth login`, kept in `$XDG_CONFIG_HOME/ims/token`
  (mode 0600) and sent only to the service that it is of. Certificates are checked against the system's, or those in
  `SSL_CERT_FILE`, and that of `IMS_CA_CERTIFICATE`.
- **S3**: `recipes push` and `images pull` use `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` where
  these are set, else credentials that the service gives you for a while.
"""


def documentation() -> str:
    """The commands as a Markdown page."""
    return "\n".join([_HEAD, *_sections(get_command(app), "ims")])


def _sections(command: Any, name: str) -> list[str]:
    """A section for each command below `command`; groups only gather them."""
    if hasattr(command, "commands"):
        inner = [part for key, below in sorted(command.commands.items()) for part in _sections(below, f"{name} {key}")]
        return [f"## {name}\n\n{command.help}\n", *inner] if name.count(" ") == 1 else inner
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    records = [record for param in command.get_params(context) if (record := param.get_help_record(context))]
    shown = [record for record in records if not record[0].startswith(("--help", "--format"))]
    rows = ["| `{}` | {} |".format(*(text.replace("|", r"\|") for text in record)) for record in shown]
    table = "\n".join(["| | |", "| --- | --- |", *rows, ""]) if rows else ""
    return [f"### {name}\n\n`{name} {usage}`\n\n{command.help}\n", *([table] if table else [])]


if __name__ == "__main__":
    print(documentation(), end="")
