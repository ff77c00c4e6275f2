"""Options that several commands share, and their checks."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

MAX_THREADS = 1024


class LanguageOption(click.Option):
    """``--language``; its help lists the languages, which are only looked up when help is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from pockettts_fast.config import available_languages

        record = super().get_help_record(ctx)
        if record is None:
            return None
        return record[0], f"{record[1]} One of {', '.join(available_languages())}."


class FiniteRange(click.FloatRange):
    """A number within bounds; NaN is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def language_option(command: Command) -> Command:
    return click.option(
        "--language",
        cls=LanguageOption,
        metavar="NAME",
        help="Model to use, english by default; not together with --config.",
    )(command)


def config_option(command: Command) -> Command:
    return click.option(
        "--config",
        metavar="YAML",
        help="Configuration of a model of your own: a path, an https:// or an hf:// address; "
        "not together with --language.",
    )(command)


def quiet_option(command: Command) -> Command:
    return click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")(command)


def threads_option(command: Command) -> Command:
    return click.option(
        "--threads",
        type=click.IntRange(1, MAX_THREADS),
        help="Cores to use at most. Default: all that the process may use.",
    )(command)


def precision_option(command: Command) -> Command:
    return click.option(
        "--precision",
        default="float32",
        show_default=True,
        metavar="NAME",
        help="Arithmetic: float32 gives the samples of the original; int8 and int8-bf16 are faster and smaller.",
    )(command)


def json_path_option(command: Command) -> Command:
    return click.option(
        "--json",
        "json_path",
        metavar="FILE",
        help="Write the facts of the run to FILE as JSON; - is standard error.",
    )(command)


def json_flag(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def refuse_both(**given: object) -> None:
    """Raises a usage error when more than one of the options ``name=value`` has a value."""
    names = [f"--{name}" for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} exclude each other: give one of them")
