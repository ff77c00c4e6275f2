"""The command ``generate``, in the process of the test."""

import json
import os
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from cli.conftest import Cli
from cli.outcome import files_in, parse_wav
from pockettts_fast import TTSModel
from pockettts_fast.audio.wav import pcm16_bytes

DEMO = ("generate", "--language", "demo")
TAIL_BYTES = 2 * 24000 // 5


def test_a_file_has_exact_sizes_and_the_samples_of_the_python_interface(cli: Cli, tmp_path: Path) -> None:
    outcome = cli(*DEMO, "--text", "Hello from a test.", "--seed", "7", "--output-path", "out.wav")
    assert outcome.code == 0
    assert outcome.stdout == b""
    content = (tmp_path / "out.wav").read_bytes()
    wav = parse_wav(content)
    assert (wav.riff_size, wav.data_size) == (len(content) - 8, len(content) - 44)
    model = TTSModel.load_model(language="demo")
    assert wav.sample_rate == model.sample_rate
    audio = model.generate_audio(model.get_state_for_audio_prompt("demo"), "Hello from a test.", seed=7)
    # The original ends its files with 200 ms of silence.
    assert wav.data == pcm16_bytes(audio) + bytes(TAIL_BYTES)
    assert files_in(tmp_path) == ["out.wav"]


def test_the_default_file_is_that_of_the_original(cli: Cli, tmp_path: Path) -> None:
    assert cli(*DEMO, "--text", "Hello.").code == 0
    assert files_in(tmp_path) == ["tts_output.wav"]


def test_without_a_text_the_default_text_is_spoken(cli: Cli) -> None:
    from pockettts_fast.defaults import default_text_for_language

    text = default_text_for_language("demo")
    assert cli(*DEMO, "--seed", "1", "--output-path", "a.wav").code == 0
    assert cli(*DEMO, "--seed", "1", "--output-path", "b.wav", "--text", text).code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_the_seed_decides_the_sound(cli: Cli) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli(*DEMO, "--text", "Hello.", "--seed", str(seed), "--output-path", name).code == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()
    assert Path("a").read_bytes() != Path("c").read_bytes()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_text_comes_from_standard_input_as_utf8(cli: Cli, mark: bytes) -> None:
    text = "Grüße aus Zürich."
    outcome = cli(*DEMO, "--text", "-", "--seed", "3", "--output-path", "a.wav", stdin=mark + text.encode())
    assert outcome.code == 0
    assert cli(*DEMO, "--text", text, "--seed", "3", "--output-path", "b.wav").code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_standard_input_that_is_not_utf8_is_refused(cli: Cli) -> None:
    sentence = cli(*DEMO, "--text", "-", stdin=b"Gr\xfc\xdfe").failed_with_one_sentence()
    assert "not UTF-8 (byte 3)" in sentence


def test_a_closed_standard_input_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from pockettts_fast.cli.generate import read_text
    from pockettts_fast.errors import TextError

    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(TextError, match="closed"):
        read_text("-", None)


@pytest.mark.parametrize("text", ["", "  \n\t ", "-"])
def test_an_empty_text_is_refused(cli: Cli, tmp_path: Path, text: str) -> None:
    assert "empty" in cli(*DEMO, "--text", text).failed_with_one_sentence()
    assert files_in(tmp_path) == []


def test_json_holds_the_facts_of_the_run(cli: Cli) -> None:
    outcome = cli(
        *DEMO,
        "--text",
        "Hello.",
        "--seed",
        "5",
        "--threads",
        "1",
        "--json",
        "facts.json",
        "--output-path",
        "o",
    )
    assert outcome.code == 0
    facts = json.loads(Path("facts.json").read_text(encoding="ascii"))
    wav = parse_wav(Path("o").read_bytes())
    assert facts["samples"] == (len(wav.data) - TAIL_BYTES) // 2
    assert facts["samples"] == facts["frames"] * 1920
    assert facts["seconds"] == facts["samples"] / wav.sample_rate
    assert facts["rtf"] == pytest.approx(facts["elapsed_s"] / facts["seconds"])
    expected = {"language": "demo", "config": None, "voice": "demo", "output": "o", "seed": 5, "threads": 1}
    assert facts | expected == facts
    assert (facts["chunks"], facts["precision"]) == (1, "float32")
    for time in ("load_s", "voice_s", "first_audio_s", "elapsed_s", "prefill_s", "lm_s", "codec_s"):
        assert 0 < facts[time] < 60, time
    assert facts["first_audio_s"] <= facts["elapsed_s"]


def test_json_can_go_to_standard_error(cli: Cli) -> None:
    outcome = cli(*DEMO, "-q", "--text", "Hello.", "--json", "-")
    assert json.loads(outcome.stderr)["seed"] >= 0


def test_a_found_seed_repeats_the_sound(cli: Cli) -> None:
    assert cli(*DEMO, "--text", "Hello.", "--json", "j", "--output-path", "a").code == 0
    seed = json.loads(Path("j").read_text(encoding="ascii"))["seed"]
    assert cli(*DEMO, "--text", "Hello.", "--seed", str(seed), "--output-path", "b").code == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_the_noisy_demo_says_so_once_and_the_result_is_named(cli: Cli) -> None:
    outcome = cli(*DEMO, "--text", "Hello.", "--output-path", "out.wav")
    notice = TTSModel.load_model(language="demo").notice
    if notice is not None:
        assert outcome.stderr.count(notice) == 1
    assert "Wrote out.wav" in outcome.stderr
    assert "x real time" in outcome.stderr


def test_quiet_says_nothing(cli: Cli) -> None:
    assert cli(*DEMO, "--quiet", "--text", "Hello.").stderr == ""


def test_speech_without_an_end_is_a_warning_and_a_fact(cli: Cli) -> None:
    outcome = cli(*DEMO, "--text", "Hello.", "--eos-threshold", "inf", "--json", "facts.json")
    assert outcome.code == 0
    assert "Warning: " in outcome.stderr
    assert "end of speech" in outcome.stderr
    assert json.loads(Path("facts.json").read_text(encoding="ascii"))["reached_limit"] is True


def test_frames_after_eos_and_temperature_reach_the_model(cli: Cli) -> None:
    arguments = ("--text", "Hello.", "--eos-threshold", "-inf", "--seed", "1", "--frames-after-eos", "9")
    assert cli(*DEMO, *arguments, "--json", "j", "--output-path", "a").code == 0
    # Ends at the first frame where that is possible, the 7th, and goes on for 9.
    assert json.loads(Path("j").read_text(encoding="ascii"))["frames"] == 6 + 9
    assert cli(*DEMO, *arguments, "--temperature", "0", "--output-path", "b").code == 0
    assert Path("a").read_bytes() != Path("b").read_bytes()


def test_the_deprecated_steps_still_work(cli: Cli) -> None:
    arguments = ("--text", "Hello.", "--seed", "1", "--output-path")
    outcome = cli(*DEMO, *arguments, "a", "--lsd-decode-steps", "2")
    assert outcome.code == 0
    assert outcome.stderr.count("deprecated") == 1
    assert cli(*DEMO, *arguments, "b", "--sampler-decode-steps", "2").code == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_effects_change_what_they_say_and_nothing_by_default(cli: Cli) -> None:
    def samples(*arguments: str) -> np.ndarray:
        arguments = ("--text", "Hello there.", "--seed", "1", "--output-path", "o", *arguments)
        assert cli(*DEMO, *arguments).code == 0
        return np.frombuffer(parse_wav(Path("o").read_bytes()).data, "<i2")

    plain = samples()
    for effect in (("--normalize",), ("--dc-block",), ("--fade-ms", "20")):
        changed = samples(*effect)
        assert changed.size == plain.size
        assert not np.array_equal(changed, plain), effect
    # -1 dB of 32767, truncated toward zero.
    assert abs(int(np.abs(samples("--normalize").astype(int)).max()) - 29203) <= 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--language", "klingon"), 1, "klingon"),
        (("--language", "englsh"), 1, "did you mean 'english'"),
        (("--language", "demo", "--config", "x.yaml"), 2, "--language and --config exclude each other"),
        (("--language", "demo", "--voice", "nobody"), 1, "nobody"),
        (("--language", "demo", "--voice", "missing.wav"), 1, "missing.wav"),
        (("--language", "demo", "--voice", "."), 1, "'.'"),
        (("--language", "demo", "--voice", ""), 1, "empty"),
        (("--language", "demo", "--seed", "9" * 40), 1, "seed"),
        (("--language", "demo", "--device", "cuda"), 2, "cuda"),
        (("--language", "demo", "--precision", "float99"), 1, "float99"),
        (("--language", "demo", "--threads", "0"), 2, "--threads"),
        (("--language", "demo", "--max-tokens", "0"), 2, "--max-tokens"),
        (("--language", "demo", "--temperature", "nan"), 1, "temp"),
        (("--language", "demo", "--temperature", "warm"), 2, "warm"),
        (("--language", "demo", "--eos-threshold", "nan"), 1, "eos_threshold"),
        (("--language", "demo", "--fade-ms", "nan"), 2, "finite"),
        (("--language", "demo", "--frobnicate"), 2, "--frobnicate"),
        (("--config", "missing.yaml"), 1, "missing.yaml"),
        (("--language", "demo", "--checkpoint", "missing.pt"), 1, "missing.pt"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_leave_nothing(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    outcome = cli("generate", "--text", "Hello.", *arguments)
    assert words in outcome.failed_with_one_sentence(code)
    assert files_in(tmp_path) == []


def test_an_unknown_key_in_a_config_is_named(cli: Cli) -> None:
    Path("my.yaml").write_text("flow_lm: {}\nsurprise: 1\n", encoding="utf-8")
    sentence = cli("generate", "--config", "my.yaml", "--text", "Hello.").failed_with_one_sentence()
    assert "surprise" in sentence


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("folder", "directory"),
        ("folder/", "directory"),
        ("", "empty"),
        ("missing/out.wav", "does not exist"),
        ("file/out.wav", "does not exist"),
    ],
)
@pytest.mark.parametrize("option", ["--output-path", "--json"])
def test_an_impossible_output_is_found_before_the_work(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, output: str, words: str, option: str
) -> None:
    monkeypatch.setattr(TTSModel, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    Path("folder").mkdir()
    Path("file").write_text("", encoding="ascii")
    assert words in cli(*DEMO, "--text", "Hello.", option, output).failed_with_one_sentence()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_cannot_be_written_is_refused(cli: Cli) -> None:
    outcome = cli(*DEMO, "--text", "Hello.", "--output-path", "/proc/out.wav")
    assert "/proc/out.wav" in outcome.failed_with_one_sentence()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_one_sentence(cli: Cli) -> None:
    outcome = cli(*DEMO, "--text", "Hello.", "--output-path", "/dev/full")
    assert "No space left" in outcome.failed_with_one_sentence()


def test_a_failure_leaves_the_earlier_file_alone(cli: Cli, tmp_path: Path) -> None:
    Path("out.wav").write_bytes(b"earlier")
    cli(*DEMO, "--voice", "nobody", "--text", "Hello.", "--output-path", "out.wav").failed_with_one_sentence()
    assert Path("out.wav").read_bytes() == b"earlier"
    assert files_in(tmp_path) == ["out.wav"]


def test_a_failure_in_the_middle_leaves_no_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pockettts_fast.cli.effects import Effects

    def failing(self, chunks, sample_rate):  # type: ignore[no-untyped-def]
        yield next(iter(chunks))
        raise RuntimeError("half way")

    monkeypatch.setattr(Effects, "apply", failing)
    sentence = cli(*DEMO, "--text", "Hello.", "--output-path", "out.wav").failed_with_one_sentence()
    assert "RuntimeError (half way)" in sentence
    assert files_in(tmp_path) == []


def test_paths_may_hold_spaces_and_any_letters(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "ein schöner Ordner 日本"
    folder.mkdir()
    assert cli(*DEMO, "--text", "Hello.", "--output-path", folder / "größe 1.wav").code == 0
    parse_wav((folder / "größe 1.wav").read_bytes())


def test_a_bad_instruction_set_is_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETTTS_FAST_ISA", "sse9")
    assert "sse9" in cli(*DEMO, "--text", "Hello.").failed_with_one_sentence()


def test_every_option_of_the_original_is_there() -> None:
    from pockettts_fast.cli.generate import generate

    names = {name for parameter in generate.params for name in parameter.opts}
    assert names >= {
        "--text",
        "--voice",
        "-q",
        "--quiet",
        "--language",
        "--config",
        "--checkpoint",
        "--sampler-decode-steps",
        "--lsd-decode-steps",
        "--temperature",
        "--noise-clamp",
        "--eos-threshold",
        "--frames-after-eos",
        "--output-path",
        "--device",
        "--max-tokens",
        "--quantize",
    }
    hidden = {p.name for p in generate.params if isinstance(p, click.Option) and p.hidden}
    assert hidden == {"lsd_decode_steps"}


def test_text_from_a_locale_that_is_not_utf8_is_recovered() -> None:
    from pockettts_fast.cli.generate import read_text
    from pockettts_fast.errors import TextError

    # What Python makes of UTF-8 bytes in an argument when the locale is ASCII.
    hidden = "Zürich".encode().decode("ascii", "surrogateescape")
    if os.fsencode("\udcc3") == b"\xc3":
        assert read_text(hidden, None) == "Zürich"
        with pytest.raises(TextError, match="not UTF-8"):
            read_text("Z\udcfcrich", None)
