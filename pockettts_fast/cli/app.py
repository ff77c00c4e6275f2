"""The command group and its version; each command lives in a module of its name."""

import contextlib
import errno
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from pockettts_fast.cli.bench import bench
from pockettts_fast.cli.doctor import doctor
from pockettts_fast.cli.errors import INTERRUPTED, READER_GONE
from pockettts_fast.cli.export_voice import export_voice
from pockettts_fast.cli.generate import generate
from pockettts_fast.cli.signals import Stopped
from pockettts_fast.cli.voices import voices

PROGRAM = "pockettts-fast"


def version_line() -> str:
    """``pockettts-fast <version>``."""
    from importlib import metadata

    try:
        return f"{PROGRAM} {metadata.version(PROGRAM)}"
    except metadata.PackageNotFoundError:
        return f"{PROGRAM} (not installed)"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code or raises what went wrong."""
    outcome = app.main(list(sys.argv[1:] if arguments is None else arguments), prog_name=PROGRAM, standalone_mode=False)
    return outcome if isinstance(outcome, int) else 0


@contextlib.contextmanager
def _before_click() -> Iterator[None]:
    """Catch what click answers further up in its own way: with a blank line, or with exit code 1."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(INTERRUPTED) from None
    except OSError as err:
        if err.errno == errno.EPIPE:
            raise Stopped(READER_GONE) from None
        raise


class _Group(click.Group):
    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _before_click():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _before_click():
            return super().invoke(ctx)


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(version_line())
        ctx.exit()


@click.group(
    cls=_Group,
    name=PROGRAM,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def app(ctx: click.Context) -> None:
    """Text to speech with Kyutai's Pocket TTS models, on the CPU."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (generate, export_voice, voices, bench, doctor):
    app.add_command(_command)
