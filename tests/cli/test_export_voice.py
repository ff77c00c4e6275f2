"""The command ``export-voice``."""

import json
from pathlib import Path

import pytest

from cli.conftest import Cli
from cli.outcome import files_in, parse_wav
from pockettts_fast.audio.wav import write_wav
from pockettts_fast.testing import synthetic_prompt

EXPORT = ("export-voice", "--language", "demo")


def record(path: str | Path, seconds: float = 1.0, rate: int = 16000, seed: int = 1) -> None:
    write_wav(path, synthetic_prompt(seconds, rate, seed), rate)


def test_an_exported_voice_speaks_like_its_recording(cli: Cli) -> None:
    record("me.wav")
    outcome = cli(*EXPORT, "me.wav", "me.safetensors")
    assert outcome.code == 0
    assert "Wrote me.safetensors" in outcome.stderr
    speak = ("generate", "--language", "demo", "--text", "Hello.", "--seed", "1", "--output-path")
    assert cli(*speak, "a.wav", "--voice", "me.wav").code == 0
    assert cli(*speak, "b.wav", "--voice", "me.safetensors").code == 0
    assert parse_wav(Path("a.wav").read_bytes()) == parse_wav(Path("b.wav").read_bytes())


def test_only_the_first_30_seconds_count(cli: Cli) -> None:
    recording = synthetic_prompt(40.0, 8000, 1)
    write_wav("long.wav", recording, 8000)
    write_wav("short.wav", recording[: 30 * 8000], 8000)
    for name in ("long", "short"):
        assert cli(*EXPORT, f"{name}.wav", f"{name}.safetensors").code == 0
    assert Path("long.safetensors").read_bytes() == Path("short.safetensors").read_bytes()


def test_a_folder_of_recordings_becomes_a_folder_of_voices(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "my recordings"
    folder.mkdir()
    record(folder / "Zoë 1.wav", seed=1)
    record(folder / "bob.WAV", seed=2)
    (folder / "notes.txt").write_text("no recording", encoding="ascii")
    (folder / ".hidden.wav").write_bytes(b"")
    (folder / "sub.wav").mkdir()
    outcome = cli(*EXPORT, folder, "voices/new", "--json", "facts.json")
    assert outcome.code == 0
    assert files_in(tmp_path / "voices" / "new") == ["Zoë 1.safetensors", "bob.safetensors"]
    facts = json.loads(Path("facts.json").read_text(encoding="ascii"))
    assert [voice["error"] for voice in facts["voices"]] == [None, None]
    assert cli(*EXPORT, folder / "bob.WAV", "bob.safetensors").code == 0
    assert Path("bob.safetensors").read_bytes() == Path("voices/new/bob.safetensors").read_bytes()


def test_a_bad_recording_among_good_ones_does_not_stop_these(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"")
    record(folder / "b.wav")
    outcome = cli(*EXPORT, "in", "out")
    assert outcome.code == 1
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2
    assert "a.wav" in errors[0]
    assert errors[1] == "Error: 1 of 2 recordings could not be converted."
    assert files_in(tmp_path / "out") == ["b.safetensors"]


def test_a_voice_can_go_into_a_folder(cli: Cli, tmp_path: Path) -> None:
    record("me.wav")
    (tmp_path / "voices").mkdir()
    assert cli(*EXPORT, "-q", "me.wav", "voices").stderr == ""
    assert files_in(tmp_path / "voices") == ["me.safetensors"]


def test_recordings_that_would_overwrite_each_other_are_refused(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    record(folder / "a.wav")
    (folder / "a.flac").write_bytes(b"")
    assert "'a.safetensors'" in cli(*EXPORT, "in", "out").failed_with_one_sentence()
    assert files_in(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "me.wav"),
        (b"", "me.wav"),
        (b"RIFF" + bytes(40), "me.wav"),
        ("empty", "no samples"),
        ("one sample", "20 ms"),
    ],
)
def test_a_bad_recording_is_one_sentence_and_leaves_nothing(
    cli: Cli, tmp_path: Path, content: bytes | str | None, words: str
) -> None:
    if isinstance(content, bytes):
        Path("me.wav").write_bytes(content)
    elif content is not None:
        record("me.wav", seconds=0.0 if content == "empty" else 1 / 16000)
    before = files_in(tmp_path)
    assert words in cli(*EXPORT, "me.wav", "me.safetensors").failed_with_one_sentence()
    assert files_in(tmp_path) == before


def test_an_empty_folder_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert "no recordings" in cli(*EXPORT, "in", "out").failed_with_one_sentence()
    assert files_in(tmp_path) == ["in"]


def test_an_impossible_target_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    record("me.wav")
    assert "missing" in cli(*EXPORT, "me.wav", "missing/me.safetensors").failed_with_one_sentence()
    assert "no directory" in cli(*EXPORT, tmp_path, "me.wav").failed_with_one_sentence()
    refused = cli(*EXPORT, tmp_path, "me.wav/voices").failed_with_one_sentence()
    assert "me.wav/voices" in refused
    assert files_in(tmp_path) == ["me.wav"]
