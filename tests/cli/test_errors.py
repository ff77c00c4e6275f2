"""From exceptions to sentences and exit codes."""

import errno
import signal

import click
import pytest

from cli.conftest import Cli
from pockettts_fast.cli.errors import one_line, report
from pockettts_fast.cli.signals import Stopped, stop_on_signals
from pockettts_fast.errors import ConfigError, DownloadError, OutputError


def broken_output() -> OutputError:
    error = OutputError("'-' cannot be written (Broken pipe).")
    error.errno = errno.EPIPE
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Stopped(130), 130),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141),
        (broken_output(), 141),
        (SystemExit(3), 3),
        (SystemExit(), 0),
        (click.exceptions.Exit(4), 4),
    ],
)
def test_what_is_no_failure_of_the_program_is_quiet(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ConfigError("Two\nlines \x1b[31mand colour."), 1, "Error: Two lines \\x1b[31mand colour."),
        (DownloadError("No network."), 1, "Error: No network."),
        (FileNotFoundError(errno.ENOENT, "No such file", "a b"), 1, "Error: No such file: 'a b'."),
        (OSError(errno.EIO, "Input/output error"), 1, "Error: Input/output error."),
        (click.UsageError("No such option: --x."), 2, "Error: No such option: --x."),
        (click.ClickException("Something."), 1, "Error: Something."),
        (
            MemoryError(),
            1,
            "Error: There is not enough memory: use a smaller model, or close other programs.",
        ),
    ],
)
def test_a_failure_is_one_line(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == code
    assert capsys.readouterr() == ("", sentence + "\n")


def test_the_unexpected_names_itself_and_shows_its_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(ZeroDivisionError("by zero")) == 1
    shown = capsys.readouterr().err
    assert "unexpected ZeroDivisionError (by zero)" in shown
    assert "report" in shown
    assert "Traceback" not in shown
    monkeypatch.setenv("POCKETTTS_FAST_DEBUG", "1")
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as err:
        report(err)
    assert "Traceback" in capsys.readouterr().err


def test_unprintable_characters_are_spelled_out() -> None:
    assert one_line("a\tb\u202ec\udcffd é日") == "a b\\u202ec\\udcffd é日"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_the_handlers_come_back(number: int) -> None:
    before = signal.getsignal(number)
    with stop_on_signals():
        pass
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_does_not_disturb_the_cleanup() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[str] = []

    @stop_on_signals()
    def command() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            done.append("went on")
        finally:
            signal.raise_signal(signal.SIGTERM)
            done.append("cleaned up")

    try:
        with pytest.raises(Stopped) as stopped:
            command()
        assert stopped.value.exit_code == 130
        assert done == ["cleaned up"]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("arguments", [("frobnicate",), ("--frobnicate",), ("export-voice",), ("export-voice", "a")])
def test_wrong_usage_is_one_sentence_with_the_way_to_help(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert "--help" in cli(*arguments).failed_with_one_sentence(2)


def test_without_a_command_the_help_is_shown(cli: Cli) -> None:
    outcome = cli()
    assert outcome.code == 0
    for command in (b"generate", b"export-voice", b"voices", b"bench", b"doctor"):
        assert command in outcome.stdout


@pytest.mark.parametrize("command", ["generate", "export-voice", "voices", "bench", "doctor"])
def test_every_command_has_help(cli: Cli, command: str) -> None:
    outcome = cli(command, "--help")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith(f"Usage: pockettts-fast {command} ".encode())
