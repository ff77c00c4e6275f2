"""The facts of a run as JSON, and the checks on outputs that are made before the work begins."""

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pockettts_fast.cli.errors import say
from pockettts_fast.errors import OutputError


def check_writable(path: str, what: str) -> None:
    """Find an impossible output before minutes of work; ``"-"`` and devices always pass.

    Raises:
        OutputError: a folder, in a folder that does not exist, or in one that may not be written.
    """
    if not path:
        raise OutputError(f"The path of the {what} is empty: give the name of a file to write.")
    if path.endswith(os.sep) or os.path.isdir(path):
        raise OutputError(f"The {what} {path!r} is a directory: give the name of a file to write.")
    if path == "-" or _is_written_directly(path):
        return
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise OutputError(f"The {what} {path!r} cannot be written: the folder {folder!r} does not exist.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"The {what} {path!r} cannot be written: the folder {folder!r} is write-protected.")


def _is_written_directly(path: str) -> bool:
    """Whether ``path`` is a device, a pipe or a descriptor, of which there is no other copy to rename."""
    return path.startswith(("/dev/", "/proc/")) or (os.path.exists(path) and not os.path.isfile(path))


def to_json(facts: Mapping[str, Any], *, indent: int | None = 2) -> str:
    return json.dumps(facts, indent=indent, ensure_ascii=True, allow_nan=False)


def write_json(path: str, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` to a file, which appears whole or not at all; for ``"-"`` one line on standard error.

    Raises:
        OutputError: the file cannot be written.
    """
    if path == "-":
        say(to_json(facts, indent=None))
        return
    content = (to_json(facts) + "\n").encode()
    final = Path(os.path.realpath(path))
    temporary = final.with_name(f".{secrets.token_hex(8)}.json.part")
    try:
        if _is_written_directly(path):
            # Appending, for a file behind /dev/stdout that has something in it already.
            with open(path, "ab") as stream:
                stream.write(content)
            return
        try:
            temporary.write_bytes(content)
            os.replace(temporary, final)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as err:
        raise OutputError(f"The facts cannot be written to {path!r} ({err.strerror or err}).") from err
