"""The command ``bench`` and the measuring behind it."""

import json
import math
from pathlib import Path

import pytest

from cli.conftest import Cli
from cli.outcome import files_in
from pockettts_fast import TTSModel, benchmark
from pockettts_fast.errors import ConfigError

QUICK = ("bench", "--rtf", "--language", "demo", "--seconds", "1", "--runs", "2", "-q")


@pytest.fixture(scope="module")
def endless_demo() -> TTSModel:
    return TTSModel.load_model(language="demo", eos_threshold=math.inf, threads=1)


def test_the_table_names_everything_and_is_all_of_standard_output(cli: Cli) -> None:
    outcome = cli(*QUICK)
    assert (outcome.code, outcome.stderr) == (0, "")
    lines = outcome.stdout.decode().splitlines()
    labels = [line.split("  ")[0] for line in lines]
    assert labels == [
        "model",
        "machine",
        "real-time factor",
        "speed",
        "first audio",
        "prefill",
        "LM and flow",
        "codec",
        "load",
        "memory",
        "measured",
    ]
    assert "float32" in lines[0]


def test_json_holds_the_medians_and_every_run(cli: Cli) -> None:
    outcome = cli(*QUICK, "--threads", "1", "--json", "-")
    measured = json.loads(outcome.stdout)
    assert len(measured["runs"]) == 2
    assert len(measured["first_audio_s"]) == 2 * (1 + benchmark.FIRST_AUDIO_RUNS)
    rtfs = sorted(run["rtf"] for run in measured["runs"])
    assert measured["rtf"] == pytest.approx(sum(rtfs) / 2)
    assert measured["times_real_time"] == pytest.approx(1 / measured["rtf"])
    assert measured["first_audio_p50_ms"] <= measured["first_audio_p95_ms"]
    assert measured["threads"] == 1
    assert measured["model"] == "demo"
    assert measured["seconds"] >= 1.0
    assert {run["frames"] for run in measured["runs"]} == {round(measured["seconds"] * 12.5)}
    assert 10 < measured["resident_mb"] <= measured["peak_mb"]
    for name in ("load_s", "voice_s", "prefill_ms_a_chunk", "lm_ms_a_frame", "codec_ms_a_frame"):
        assert measured[name] > 0, name


def test_json_in_a_file_comes_with_the_table(cli: Cli) -> None:
    outcome = cli(*QUICK, "--json", "m.json")
    assert b"real-time factor" in outcome.stdout
    assert json.loads(Path("m.json").read_text(encoding="ascii"))["isa"] in outcome.stdout.decode()


def test_a_model_that_is_too_slow_fails_with_a_sentence(cli: Cli) -> None:
    outcome = cli(*QUICK, "--threshold", "1e-9")
    assert outcome.code == 1
    assert b"real-time factor" in outcome.stdout
    assert outcome.stderr.startswith("Error: The real-time factor is ")
    assert outcome.stderr.count("\n") == 1
    assert cli(*QUICK, "--threshold", "1e9").code == 0


def test_random_weights_of_any_size_can_be_measured(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    outcome = cli("bench", "--rtf", "--synthetic", "tiny", "--seconds", "1", "--runs", "1", "--json", "-")
    measured = json.loads(outcome.stdout)
    assert (outcome.code, measured["model"], measured["random_weights"]) == (0, "tiny", True)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("bench",), 2, "--rtf"),
        (("bench", "--rtf", "--synthetic", "huge"), 1, "'huge'"),
        (("bench", "--rtf", "--synthetic", "tiny", "--language", "demo"), 2, "exclude each other"),
        (("bench", "--rtf", "--language", "demo", "--seconds", "nan"), 2, "finite"),
        (("bench", "--rtf", "--language", "demo", "--seconds", "0"), 2, "--seconds"),
        (("bench", "--rtf", "--language", "demo", "--runs", "0"), 2, "--runs"),
        (("bench", "--rtf", "--language", "demo", "--threshold", "0"), 2, "--threshold"),
        (("bench", "--rtf", "--language", "demo", "--text", " "), 1, "empty"),
        (("bench", "--rtf", "--language", "demo", "--voice", "nobody"), 1, "nobody"),
        (("bench", "--rtf", "--language", "demo", "--json", "missing/m.json"), 1, "missing"),
    ],
)
def test_wrong_arguments_are_one_sentence(cli: Cli, arguments: tuple[str, ...], code: int, words: str) -> None:
    assert words in cli(*arguments).failed_with_one_sentence(code)


@pytest.mark.parametrize("seconds", [0.5, 3.0, 17.0, 40.0])
def test_the_text_lasts_as_long_as_asked_and_hardly_longer(endless_demo: TTSModel, seconds: float) -> None:
    source = "One two three, four five six. Seven eight nine?"
    text = benchmark.text_that_lasts(endless_demo, seconds, source)
    assert benchmark.length_limit_s(endless_demo, text) >= seconds
    shorter = " ".join(text.split()[:-1])
    assert not shorter or benchmark.length_limit_s(endless_demo, shorter) < seconds


def test_a_run_lasts_until_the_length_limit(endless_demo: TTSModel) -> None:
    voice = endless_demo.get_state_for_audio_prompt("demo")
    text = benchmark.text_that_lasts(endless_demo, 4.0, "Some words to say.")
    finished: list[int] = []
    result = benchmark.measure_rtf(endless_demo, voice, text, runs=1, on_run=finished.append)
    assert finished == [1, 2]
    run = result.runs[0]
    # Every chunk is rounded up to a whole frame of 80 ms.
    limit = benchmark.length_limit_s(endless_demo, text)
    assert limit <= run.audio_s < limit + 0.08 * run.chunks
    assert 0 < run.first_audio_s < run.elapsed_s
    assert run.rtf == run.elapsed_s / run.audio_s


def test_memory_is_measured() -> None:
    resident, peak = benchmark.memory_mb()
    assert resident is None or 5 < resident < 100_000
    assert peak is None or peak > 5


def test_an_unknown_synthetic_model_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"english.*tiny"):
        benchmark.write_synthetic("huge", tmp_path)
