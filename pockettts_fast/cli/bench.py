"""``pockettts-fast bench``: measure this machine."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pockettts_fast.cli import facts, options
from pockettts_fast.cli.errors import CommandError
from pockettts_fast.cli.machine import processor_name
from pockettts_fast.cli.messages import Messages
from pockettts_fast.defaults import DEMO_LANGUAGE, default_text_for_language, default_voice_for_language

if TYPE_CHECKING:
    from pockettts_fast.tts import TTSModel

_LONGEST_S = 3600.0
_SYNTHETIC_VOICE_S = 10.0
_SEED = 0


@dataclass(frozen=True)
class Request:
    """The options of the command, by their names."""

    rtf: bool
    language: str | None
    config: str | None
    synthetic: str | None
    voice: str | None
    text: str | None
    seconds: float
    runs: int
    threads: int | None
    precision: str
    json_path: str | None
    threshold: float | None
    quiet: bool


@click.command()
@click.option("--rtf", is_flag=True, help="Measure the real-time factor, the first audio and the memory.")
@options.language_option
@options.config_option
@click.option(
    "--synthetic",
    metavar="NAME",
    help="Model with random weights of the size of this language (or tiny), which needs no download.",
)
@click.option("--voice", help="Voice to speak with, as for generate.")
@click.option("--text", help="Text to speak; - reads standard input. Default: as long as --seconds asks.")
@click.option(
    "--seconds",
    type=options.FiniteRange(0.1, _LONGEST_S),
    default=10.0,
    show_default=True,
    help="Sound to make in a run.",
)
@click.option("--runs", type=click.IntRange(1, 10_000), default=5, show_default=True, help="Runs to measure.")
@options.threads_option
@options.precision_option
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Write the measurement to FILE as JSON; - prints it in place of the table.",
)
@click.option(
    "--threshold",
    type=options.FiniteRange(0.0, min_open=True),
    help="Fail when the median real-time factor is above this.",
)
@options.quiet_option
def bench(**values: Any) -> None:
    """Measure how fast a model speaks on this machine.

    Every run makes the same amount of sound: the end of speech is ignored, and the length limit of the text
    ends it. The medians over the runs are printed, after a warm-up that does not count.
    """
    request = Request(**values)
    if not request.rtf:
        raise click.UsageError("Nothing to measure is named: give --rtf")
    options.refuse_both(language=request.language, config=request.config, synthetic=request.synthetic)
    if request.json_path not in (None, "-"):
        facts.check_writable(str(request.json_path), "JSON file")
    messages = Messages(request.quiet)
    # Every run ends at its limit, which is worth a warning elsewhere.
    with messages.collecting_log(logging.ERROR):
        measured, rtf = _measure(request, messages)
    if request.json_path == "-":
        click.echo(facts.to_json(measured))
    else:
        click.echo(table(measured))
        if request.json_path is not None:
            facts.write_json(request.json_path, measured)
    if request.threshold is not None and rtf > request.threshold:
        raise CommandError(
            f"The real-time factor is {rtf:.4g}, above the threshold of {request.threshold:.4g}: this is too slow."
        )


def _measure(request: Request, messages: Messages) -> tuple[dict[str, Any], float]:
    from pockettts_fast import TTSModel, benchmark
    from pockettts_fast.cli.generate import read_text
    from pockettts_fast.testing import synthetic_prompt

    with _config_of(request, messages) as config:
        began = time.perf_counter()
        model = TTSModel.load_model(
            language=request.language,
            config=config,
            eos_threshold=math.inf,
            precision=request.precision,
            threads=request.threads,
        )
        loaded = time.perf_counter()
        if request.synthetic is not None and request.voice is None:
            recording = synthetic_prompt(_SYNTHETIC_VOICE_S, model.sample_rate, _SEED)
            voice = model.get_state_for_audio_prompt(recording)
        else:
            named = request.voice
            if named is None:
                named = default_voice_for_language(request.language, config)
            voice = model.get_state_for_audio_prompt(named)
        voice_s = time.perf_counter() - loaded
        if request.text is None:
            source = default_text_for_language(request.language or request.synthetic)
            text = benchmark.text_that_lasts(model, request.seconds, source)
        else:
            text = read_text(request.text, request.language)

        def on_run(finished: int) -> None:
            messages.progress(f"run {finished} of {request.runs + 1}")

        result = benchmark.measure_rtf(model, voice, text, runs=request.runs, seed=_SEED, on_run=on_run)
        resident_mb, peak_mb = benchmark.memory_mb()
    messages.clear_progress()
    measured = _subject(request, model) | {
        "load_s": loaded - began,
        "voice_s": voice_s,
        "resident_mb": resident_mb,
        "peak_mb": peak_mb,
        "seconds": result.runs[0].audio_s,
    }
    return measured | result.to_dict(), result.rtf


@contextlib.contextmanager
def _config_of(request: Request, messages: Messages) -> Iterator[str | None]:
    """The configuration to load, with a synthetic checkpoint behind it as long as it is needed."""
    if request.synthetic is None:
        yield request.config
        return
    import tempfile

    from pockettts_fast.benchmark import write_synthetic

    with tempfile.TemporaryDirectory(prefix="pockettts-fast-") as folder:
        messages.note(f"Writing random weights of {request.synthetic}")
        yield str(write_synthetic(request.synthetic, folder, _SEED))


def _subject(request: Request, model: "TTSModel") -> dict[str, Any]:
    from pockettts_fast import _core
    from pockettts_fast.cli.app import version_line
    from pockettts_fast.defaults import DEFAULT_LANGUAGE

    name = request.synthetic or request.config or request.language or DEFAULT_LANGUAGE
    is_noisy_demo = name == DEMO_LANGUAGE and model.notice is not None
    return {
        "program": version_line(),
        "model": name,
        "random_weights": request.synthetic is not None or is_noisy_demo,
        "processor": processor_name(),
        "isa": _core.active_isa(),
        "threads": model.threads,
        "precision": model.precision,
    }


def table(measured: dict[str, Any]) -> str:
    """The measurement as lines of text."""

    def megabytes(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.0f} MB"

    m = measured
    random = " (random weights)" if m["random_weights"] else ""
    rows = [
        ("model", f"{m['model']}{random}, {m['precision']}"),
        ("machine", f"{m['processor']}, {m['isa']}, threads: {m['threads']}"),
        ("real-time factor", f"{m['rtf']:.4f}  ({m['rtf_min']:.4f} to {m['rtf_max']:.4f})"),
        ("speed", f"{m['times_real_time']:.2f}x real time"),
        ("first audio", f"{m['first_audio_p50_ms']:.1f} ms p50, {m['first_audio_p95_ms']:.1f} ms p95"),
        ("prefill", f"{m['prefill_ms_a_chunk']:.2f} ms a text chunk"),
        ("LM and flow", f"{m['lm_ms_a_frame']:.3f} ms a frame"),
        ("codec", f"{m['codec_ms_a_frame']:.3f} ms a frame"),
        ("load", f"{m['load_s']:.2f} s, voice {m['voice_s']:.2f} s"),
        ("memory", f"{megabytes(m['resident_mb'])} resident, {megabytes(m['peak_mb'])} peak"),
        ("measured", f"{len(m['runs'])} runs of {m['seconds']:.2f} s of sound"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)
