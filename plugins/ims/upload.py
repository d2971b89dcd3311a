"""`python -m ims.upload FILE s3://bucket/key`: store a file with the checksums that workflows compare."""

from __future__ import annotations

import sys
from pathlib import Path

from ims.errors import ImsError, InputError
from ims.storage.objects import ObjectName, ObjectStore


def main(arguments: list[str]) -> int:
    """Upload as the command line says; returns the exit code."""
    try:
        if len(arguments) != 2:
            raise InputError("give a file and an S3 address", "python -m ims.upload FILE s3://bucket/key")
        path, name = Path(arguments[0]), ObjectName.parse(arguments[1])
        if not path.is_file():
            raise InputError(f"{path} is not a file")
        stored = ObjectStore.from_environment(attempts=3).upload(path, name, {})
    except ImsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyError as error:
        print(f'error: {error} is not set. Ready the shell with: eval "$(make -s env)"', file=sys.stderr)
        return 78
    print(f"{name} {stored.size} bytes, verified")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
