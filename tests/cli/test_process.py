"""What only shows in a process of its own: pipes, signals, terminals, locales, start-up."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.outcome import COMMAND, LONG_TEXT, files_in, parse_wav, run

DEMO = ("generate", "--language", "demo")

# A background job of a shell starts with SIGINT ignored, and the test may run in one.
_WITH_INTERRUPTS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from pockettts_fast.cli import main; main()"
)


def start(*arguments: str, **streams: int) -> "subprocess.Popen[bytes]":
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | streams
    return subprocess.Popen([sys.executable, "-c", _WITH_INTERRUPTS, *arguments], **streams)


def wait_for_part(folder: Path) -> None:
    """Until the file with the speech so far is there."""
    deadline = time.monotonic() + 30
    while not any(name.endswith(".part") for name in files_in(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_standard_output_is_a_wav_and_nothing_else(tmp_path: Path) -> None:
    arguments = (*DEMO, "--text", "Hello from a pipe.", "--seed", "4", "--output-path")
    outcome = run(*arguments, "-")
    assert outcome.code == 0
    streamed = parse_wav(outcome.stdout)
    assert (streamed.riff_size, streamed.data_size) == (0xFFFFFFFF, 0xFFFFFFFF)
    assert run(*arguments, "file.wav").code == 0
    assert streamed.data == parse_wav(Path("file.wav").read_bytes()).data
    assert "\r" not in outcome.stderr


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    with start(*DEMO, "--text", LONG_TEXT, "--output-path", "-") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(os.read(process.stdout.fileno(), 100)) > 0
        process.stdout.close()
        complaint = process.stderr.read().decode()
        assert process.wait(30) == 141
    assert "Error" not in complaint
    assert "Traceback" not in complaint
    assert "Exception ignored" not in complaint


def test_the_sound_arrives_while_it_is_made() -> None:
    with start(*DEMO, "--text", LONG_TEXT, "--output-path", "-") as process:
        assert process.stdout is not None
        assert len(process.stdout.read(44 + 3840)) == 44 + 3840
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 143


@pytest.mark.parametrize("command", [("voices",), ("--help",), ("--version",), ("doctor",)])
def test_a_table_without_a_reader_ends_quietly(command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start(*command, stdout=writing) as process:
        os.close(writing)
        assert process.stderr is not None
        complaint = process.stderr.read()
        assert process.wait(30) == 141
    assert complaint == b""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_command_and_leaves_no_file(tmp_path: Path, number: int, code: int) -> None:
    with start(*DEMO, "-q", "--text", LONG_TEXT, "--output-path", "out.wav") as process:
        wait_for_part(tmp_path)
        time.sleep(0.1)
        process.send_signal(number)
        out, complaint = process.communicate(timeout=10)
    assert (process.returncode, out, complaint) == (code, b"", b"")
    assert files_in(tmp_path) == []


def test_interrupts_in_a_row_still_clean_up(tmp_path: Path) -> None:
    Path("out.wav").write_bytes(b"earlier")
    with start(*DEMO, "-q", "--text", LONG_TEXT, "--output-path", "out.wav") as process:
        wait_for_part(tmp_path)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=10)
    assert process.returncode in (130, 143)
    assert complaint == b""
    assert files_in(tmp_path) == ["out.wav"]
    assert Path("out.wav").read_bytes() == b"earlier"


def test_an_interrupt_while_waiting_for_text_ends_the_command(tmp_path: Path) -> None:
    with start(*DEMO, "--text", "-", stdin=subprocess.PIPE) as process:
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_an_interrupt_during_a_benchmark_removes_the_synthetic_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start("bench", "--rtf", "--synthetic", "tiny", "--runs", "1000", "--seconds", "30") as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("pockettts-fast-*/config.yaml")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, complaint = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in complaint
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_standard_streams_do_no_harm(closed: str) -> None:
    line = f'"$0" -m pockettts_fast generate --language demo --text Hello. --output-path out.wav {closed}'
    done = subprocess.run(["sh", "-c", line, sys.executable], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    parse_wav(Path("out.wav").read_bytes())


def test_a_stream_to_a_closed_standard_output_is_an_error() -> None:
    line = '"$0" -m pockettts_fast generate --language demo --text Hello. --output-path - >&-'
    done = subprocess.run(["sh", "-c", line, sys.executable], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count(b"Error: ") == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [("voices",), (*DEMO, "--text", "Hello.", "--output-path", "-")])
def test_a_full_disk_behind_standard_output_is_one_sentence(command: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full, start(*command, stdout=full.fileno()) as process:
        assert process.stderr is not None
        complaint = process.stderr.read().decode()
        assert process.wait(30) == 1
    assert complaint.count("Error: ") == 1
    assert "No space left" in complaint
    assert "Exception ignored" not in complaint


def _read_terminal(descriptor: int) -> bytes:
    shown = b""
    # Linux reports the end of a terminal as an I/O error.
    with contextlib.suppress(OSError):
        while block := os.read(descriptor, 4096):
            shown += block
    return shown


def test_progress_is_shown_on_a_terminal_only() -> None:
    ours, theirs = os.openpty()
    with start(*DEMO, "--text", "Hello. " * 200, "--output-path", "out.wav", stderr=theirs) as process:
        os.close(theirs)
        shown = _read_terminal(ours)
        assert process.wait(60) == 0
    os.close(ours)
    assert shown.count(b"\r") > 5
    assert b"x real time" in shown
    assert b"Wrote out.wav" in shown


def test_a_wav_is_not_written_to_a_terminal() -> None:
    ours, theirs = os.openpty()
    with start(*DEMO, "--text", "Hello.", "--output-path", "-", stdout=theirs) as process:
        os.close(theirs)
        shown = _read_terminal(ours)
        assert process.stderr is not None
        assert b"Error: Standard output is a terminal" in process.stderr.read()
        assert process.wait(60) == 1
    os.close(ours)
    assert shown == b""


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C.UTF-8"}]
)
def test_any_locale_speaks_the_same(tmp_path: Path, locale: dict[str, str]) -> None:
    folder = tmp_path / "Grüße 日本"
    folder.mkdir()
    text = "Größe: Ünï. Ça va?"
    arguments = (*DEMO, "--seed", "1", "--output-path")
    assert run(*arguments, folder / "a é.wav", "--text", text, **locale).code == 0
    piped = run(*arguments, folder / "b.wav", "--text", "-", stdin=text.encode(), **locale)
    assert piped.code == 0
    assert files_in(folder) == ["a é.wav", "b.wav"]
    assert (folder / "a é.wav").read_bytes() == (folder / "b.wav").read_bytes()
    refused = run(*arguments, folder / "c.wav", "--text", text, "--voice", folder / "keine Stimmé", **locale)
    refused.failed_with_one_sentence()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_sound_and_facts_can_go_to_descriptors() -> None:
    arguments = ("-q", "--text", "Hello.", "--seed", "1")
    facts = run(*DEMO, *arguments, "--output-path", "out.wav", "--json", "/dev/stdout")
    assert facts.code == 0
    assert json.loads(facts.stdout)["seed"] == 1
    sound = run(*DEMO, *arguments, "--output-path", "/dev/stdout")
    assert sound.code == 0
    assert parse_wav(sound.stdout).data == parse_wav(Path("out.wav").read_bytes()).data


def test_the_version_does_not_load_the_numerical_libraries() -> None:
    code = (
        "import sys\n"
        "from pockettts_fast.cli import main\n"
        "try:\n"
        "    main(['--version'])\n"
        "except SystemExit as end:\n"
        "    heavy = {'numpy', 'huggingface_hub', 'tokenizers', 'yaml', 'msgspec', 'soundfile'}\n"
        "    print(end.code, sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    version, loaded = done.stdout.decode().splitlines()
    assert version.startswith("pockettts-fast ")
    assert loaded == "0 []"


def test_the_module_runs_like_the_script() -> None:
    outcome = run("--version")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert COMMAND[1:] == ["-m", "pockettts_fast"]
    assert outcome.stdout.startswith(b"pockettts-fast ")
