"""From an exception to one sentence on standard error and an exit code."""

import errno
import os
import sys
import traceback
from typing import NoReturn, TextIO

import click

from pockettts_fast.cli.signals import Stopped
from pockettts_fast.errors import PocketTTSError

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
READER_GONE = 141
"""128 + SIGPIPE, what a shell reports for programs that this signal ends."""

_DEBUG_VARIABLE = "POCKETTTS_FAST_DEBUG"


class CommandError(PocketTTSError):
    """A command did its work and the outcome is not what was asked for."""


def finish(code: int) -> NoReturn:
    """Exit with ``code``, or with 1 when it is 0 and the output could not be written to its end."""
    # A buffer that cannot be written would be reported by the interpreter, after its last line of ours.
    if not _flush(sys.stdout) and code == 0:
        code = FAILED
    _flush(sys.stderr)
    sys.exit(code)


def report(error: BaseException) -> int:
    """Say on standard error what happened, if anything is to be said; returns the exit code."""
    if isinstance(error, Stopped):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else FAILED
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        return report(error.__cause__) if isinstance(error.__cause__, EOFError) else INTERRUPTED
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return READER_GONE
    if os.environ.get(_DEBUG_VARIABLE, "") not in ("", "0"):
        say("".join(traceback.format_exception(error)).rstrip())
    say(f"Error: {one_line(_sentence(error))}")
    return WRONG_USAGE if isinstance(error, click.UsageError) else FAILED


def say(message: str) -> None:
    """Write a line to standard error; if nobody can read that, the work still goes on."""
    try:
        click.echo(message, err=True)
    except (OSError, ValueError):
        _flush(sys.stderr)


def one_line(text: str) -> str:
    """``text`` without line breaks and without what a terminal would act on."""
    joined = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in joined)


def _sentence(error: BaseException) -> str:
    if isinstance(error, click.UsageError):
        message = error.format_message().rstrip(".")
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
        return f"{message}{hint}."
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, PocketTTSError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory: use a smaller model, or close other programs."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}." if error.filename else f"{error.strerror}."
    if isinstance(error, ImportError):
        return f"The installation is not complete ({error}): install the package again."
    return (
        f"There was an unexpected {type(error).__name__} ({error}): this is a fault of the program, please "
        f"report it with what is printed when {_DEBUG_VARIABLE}=1 is set."
    )


def _flush(stream: TextIO | None) -> bool:
    """Flush; a stream that cannot be written is pointed to nowhere, so that the exit does not stumble."""
    if stream is None:
        return True
    try:
        stream.flush()
    except (OSError, ValueError):
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass
        return False
    return True
