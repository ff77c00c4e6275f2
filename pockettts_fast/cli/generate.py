"""``pockettts-fast generate``: a text to a WAV file, or to a WAV stream on standard output."""

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pockettts_fast.cli import facts, options
from pockettts_fast.cli.messages import Messages
from pockettts_fast.defaults import (
    DEFAULT_FRAMES_AFTER_EOS,
    DEFAULT_NOISE_CLAMP,
    DEFAULT_SAMPLER_DECODE_STEPS,
    MAX_TOKENS_PER_CHUNK,
    default_text_for_language,
    default_voice_for_language,
)
from pockettts_fast.errors import OutputError, TextError

if TYPE_CHECKING:
    from pockettts_fast.engine import GenerationReport
    from pockettts_fast.tts import TTSModel

_LONGEST_FADE_MS = 10_000.0


@dataclass(frozen=True)
class Request:
    """The options of the command, by their names."""

    text: str | None
    voice: str | None
    quiet: bool
    language: str | None
    config: str | None
    checkpoint: str | None
    sampler_decode_steps: int
    lsd_decode_steps: int | None
    temperature: float | None
    noise_clamp: float | None
    eos_threshold: float | None
    frames_after_eos: int | None
    output_path: str
    device: str
    max_tokens: int
    quantize: bool
    seed: int | None
    threads: int | None
    precision: str
    json_path: str | None
    dc_block: bool
    normalize: bool
    fade_ms: float


def _check_device(ctx: click.Context, parameter: click.Parameter, device: str) -> str:
    if device != "cpu":
        raise click.BadParameter(f"{device!r} is not supported: this program computes on the cpu only")
    return device


@click.command()
@click.option("--text", help="Text to speak; - reads standard input. Default: a short text in the language.")
@click.option(
    "--voice",
    help="Voice to speak with: a built-in name (see `pockettts-fast voices`), a recording to clone, or a "
    "saved .safetensors voice, also at an https:// or hf:// address. Default: the voice of the language.",
)
@options.quiet_option
@options.language_option
@options.config_option
@click.option("--checkpoint", metavar="PT", help="Training checkpoint to use in place of the model's weights.")
@click.option(
    "--sampler-decode-steps",
    type=click.IntRange(min=1),
    default=DEFAULT_SAMPLER_DECODE_STEPS,
    show_default=True,
    help="Steps of the sampler a frame: more are slower.",
)
@click.option("--lsd-decode-steps", type=click.IntRange(min=1), hidden=True)
@click.option("--temperature", type=float, help="Variance of the noise; 0 is none. Default: the model's.")
@click.option("--noise-clamp", type=float, default=DEFAULT_NOISE_CLAMP, help="Bound on the noise.")
@click.option("--eos-threshold", type=float, help="Speech ends when its logit is above this. Default: the model's.")
@click.option(
    "--frames-after-eos",
    type=click.IntRange(min=0),
    default=DEFAULT_FRAMES_AFTER_EOS,
    help="Frames of 80 ms to go on after the end of speech. Default: by the model or the text.",
)
@click.option(
    "--output-path",
    default="./tts_output.wav",
    show_default=True,
    metavar="WAV",
    help="File to write, which appears when it is complete; - streams to standard output.",
)
@click.option("--device", default="cpu", show_default=True, callback=_check_device, help="Only cpu.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=MAX_TOKENS_PER_CHUNK,
    show_default=True,
    help="Most tokens spoken at once; a longer text is split at its sentences.",
)
@click.option("--quantize/--no-quantize", default=False, help="The same as --precision int8.")
@click.option("--seed", type=int, help="The same seed gives the same sound. Default: random.")
@options.threads_option
@options.precision_option
@options.json_path_option
@click.option("--dc-block", is_flag=True, help="Remove a constant offset and what lies below 20 Hz.")
@click.option(
    "--normalize",
    is_flag=True,
    help="Scale to a peak of -1 dB; all of the sound is then made before any is written.",
)
@click.option(
    "--fade-ms",
    type=options.FiniteRange(0.0, _LONGEST_FADE_MS),
    default=0.0,
    help="Fade in and out over so many milliseconds.",
)
def generate(**values: Any) -> None:
    """Speak a text."""
    request = Request(**values)
    options.refuse_both(language=request.language, config=request.config)
    messages = Messages(request.quiet)
    with messages.collecting_log():
        speak(request, messages)


def speak(request: Request, messages: Messages) -> None:
    """The work of the command."""
    text = read_text(request.text, request.language)
    if not text.strip():
        raise TextError("The text is empty: give at least one word.")
    _check_outputs(request)

    from pockettts_fast import TTSModel
    from pockettts_fast.audio.wav import UPSTREAM_TAIL_SILENCE_S, WavWriter
    from pockettts_fast.cli.effects import Effects

    steps = request.sampler_decode_steps
    if request.lsd_decode_steps is not None:
        messages.note("Warning: --lsd-decode-steps is deprecated: use --sampler-decode-steps.")
        steps = request.lsd_decode_steps
    began = time.perf_counter()
    model = TTSModel.load_model(
        language=request.language,
        config=request.config,
        temp=request.temperature,
        sampler_decode_steps=steps,
        noise_clamp=request.noise_clamp,
        eos_threshold=request.eos_threshold,
        quantize=request.quantize,
        checkpoint=request.checkpoint,
        precision=request.precision,
        threads=request.threads,
    )
    if model.notice is not None:
        messages.note(model.notice)
    loaded = time.perf_counter()
    voice = request.voice
    if voice is None:
        voice = default_voice_for_language(request.language, request.config, request.checkpoint)
    state = model.get_state_for_audio_prompt(voice)
    prepared = time.perf_counter()
    stream = model.generate_audio_stream(state, text, request.max_tokens, request.frames_after_eos, seed=request.seed)
    rate = model.sample_rate
    effects = Effects(dc_block=request.dc_block, fade_ms=request.fade_ms, normalize=request.normalize)
    with (
        contextlib.closing(stream),
        WavWriter(request.output_path, rate, tail_silence_s=UPSTREAM_TAIL_SILENCE_S) as writer,
    ):
        for chunk in effects.apply(stream, rate):
            writer.write(chunk)
            report = stream.report
            messages.progress(_speed_of(report, rate))
    messages.clear_progress()
    if request.output_path != "-":
        messages.note(f"Wrote {request.output_path}")
    messages.note(f"{_speed_of(stream.report, rate)}, seed {stream.report.seed}")
    if request.json_path is not None:
        run = _facts(request, model, voice, stream.report)
        run |= {"load_s": loaded - began, "voice_s": prepared - loaded}
        facts.write_json(request.json_path, run)


def read_text(text: str | None, language: str | None) -> str:
    """The text to speak: the one given, that on standard input for ``"-"``, or the language's own for None.

    Raises:
        TextError: it is not UTF-8, or there is no standard input.
    """
    if text is None:
        return default_text_for_language(language)
    if text != "-":
        # Where the locale is not UTF-8, Python hides the bytes that it could not decode in surrogates.
        return _decoded(os.fsencode(text), "The text") if _has_surrogates(text) else text
    if sys.stdin is None:
        raise TextError("Standard input is closed: give the text with --text.")
    return _decoded(sys.stdin.buffer.read(), "The text on standard input")


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise TextError(f"{what} is not UTF-8 (byte {err.start + 1}): convert it to UTF-8.") from err


def _check_outputs(request: Request) -> None:
    facts.check_writable(request.output_path, "output")
    if request.output_path == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise OutputError("Standard output is a terminal: send the WAV to a pipe or a file.")
    if request.json_path is not None:
        facts.check_writable(request.json_path, "JSON file")


def _speed_of(report: "GenerationReport", sample_rate: int) -> str:
    seconds = report.samples / sample_rate
    speed = seconds / report.elapsed_s if report.elapsed_s > 0 else 0.0
    return (
        f"{seconds:.2f} s of sound in {report.elapsed_s:.2f} s ({speed:.1f}x real time), "
        f"first after {1000 * report.first_audio_s:.0f} ms"
    )


def _facts(request: Request, model: "TTSModel", voice: str, report: "GenerationReport") -> dict[str, Any]:
    from pockettts_fast import _core
    from pockettts_fast.cli.app import version_line

    seconds = report.samples / model.sample_rate
    return {
        "program": version_line(),
        "language": request.language,
        "config": request.config,
        "checkpoint": request.checkpoint,
        "voice": voice,
        "output": request.output_path,
        "sample_rate": model.sample_rate,
        "samples": report.samples,
        "seconds": seconds,
        "frames": report.frames,
        "chunks": report.chunks,
        "seed": report.seed,
        "reached_limit": report.reached_limit,
        "first_audio_s": report.first_audio_s,
        "elapsed_s": report.elapsed_s,
        "rtf": report.elapsed_s / seconds if seconds else None,
        "prefill_s": report.prefill_s,
        "lm_s": report.lm_s,
        "codec_s": report.codec_s,
        "precision": model.precision,
        "isa": _core.active_isa(),
        "threads": model.threads,
    }
