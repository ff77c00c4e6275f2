"""Measuring a loaded model: how fast it speaks, how soon, in how much memory.

Speech runs to its length limit in every run (load the model with ``eos_threshold=inf``), so that all runs
make the same number of frames and random weights are as good as trained ones.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pockettts_fast.config import available_languages, language_config_path
from pockettts_fast.defaults import (
    GENERATION_SECONDS_PADDING,
    MAX_TOKENS_PER_CHUNK,
    TOKENS_PER_SECOND_ESTIMATE,
)
from pockettts_fast.errors import ConfigError, GenerationError
from pockettts_fast.tts import TTSModel
from pockettts_fast.voice_state import ModelState

TINY = "tiny"
"""A synthetic model of a few 10 000 parameters, for trying out the measurement itself."""

FIRST_AUDIO_RUNS = 4
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class RtfRun:
    """One utterance. Times in seconds; those of the stages are sums over its frames and text chunks."""

    audio_s: float
    elapsed_s: float
    first_audio_s: float
    prefill_s: float
    lm_s: float
    codec_s: float
    frames: int
    chunks: int

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds of work for a second of sound."""
        return self.elapsed_s / self.audio_s


@dataclass(frozen=True)
class RtfResult:
    """All runs of a measurement; the properties are what to quote.

    Attributes:
        runs: the whole utterances.
        first_audio_s: from the call to the first chunk, of the whole utterances and of those in between that
            were stopped there.
    """

    runs: tuple[RtfRun, ...]
    first_audio_s: tuple[float, ...]

    @property
    def rtf(self) -> float:
        """Median real-time factor."""
        return statistics.median(run.rtf for run in self.runs)

    def summary(self) -> dict[str, float]:
        """Medians, and percentiles of the first audio; milliseconds where the name says so."""
        import numpy as np

        first_ms = 1000.0 * np.asarray(self.first_audio_s)
        return {
            "rtf": self.rtf,
            "rtf_min": min(run.rtf for run in self.runs),
            "rtf_max": max(run.rtf for run in self.runs),
            "times_real_time": 1.0 / self.rtf,
            "first_audio_p50_ms": float(np.percentile(first_ms, 50)),
            "first_audio_p95_ms": float(np.percentile(first_ms, 95)),
            "prefill_ms_a_chunk": statistics.median(1000 * run.prefill_s / run.chunks for run in self.runs),
            "lm_ms_a_frame": statistics.median(1000 * run.lm_s / run.frames for run in self.runs),
            "codec_ms_a_frame": statistics.median(1000 * run.codec_s / run.frames for run in self.runs),
        }

    def to_dict(self) -> dict[str, Any]:
        """:meth:`summary` with every run, as plain data."""
        return self.summary() | {
            "runs": [asdict(run) | {"rtf": run.rtf} for run in self.runs],
            "first_audio_s": list(self.first_audio_s),
        }


def measure_rtf(
    model: TTSModel,
    voice: ModelState,
    text: str,
    *,
    runs: int = 5,
    seed: int = 0,
    on_run: Callable[[int], None] | None = None,
) -> RtfResult:
    """Speak ``text`` ``runs`` times after a warm-up, each time followed by short runs for the first audio.

    Whole and short runs alternate, so that a machine that gets slower or faster meanwhile counts for both.

    Args:
        on_run: called with the number of whole utterances finished, the warm-up included.
    """
    finished: list[RtfRun] = []
    first_audio: list[float] = []
    for number in range(runs + 1):
        run = _speak(model, voice, text, seed)
        short = [_first_audio(model, voice, text, seed) for _ in range(FIRST_AUDIO_RUNS)]
        if number > 0:
            finished.append(run)
            first_audio += [run.first_audio_s, *short]
        if on_run is not None:
            on_run(number + 1)
    return RtfResult(tuple(finished), tuple(first_audio))


def _speak(model: TTSModel, voice: ModelState, text: str, seed: int) -> RtfRun:
    began = time.perf_counter()
    first_audio_s = 0.0
    with contextlib.closing(model.generate_audio_stream(voice, text, seed=seed)) as stream:
        for _ in stream:
            first_audio_s = first_audio_s or time.perf_counter() - began
    elapsed_s = time.perf_counter() - began
    report = stream.report
    if report.frames == 0:
        raise GenerationError("The model made no sound: there is nothing to measure.")
    return RtfRun(
        audio_s=report.samples / model.sample_rate,
        elapsed_s=elapsed_s,
        first_audio_s=first_audio_s,
        prefill_s=report.prefill_s,
        lm_s=report.lm_s,
        codec_s=report.codec_s,
        frames=report.frames,
        chunks=report.chunks,
    )


def _first_audio(model: TTSModel, voice: ModelState, text: str, seed: int) -> float:
    began = time.perf_counter()
    with contextlib.closing(model.generate_audio_stream(voice, text, seed=seed)) as stream:
        next(stream)
        return time.perf_counter() - began


def text_that_lasts(model: TTSModel, seconds: float, source: str) -> str:
    """The fewest words of ``source``, repeated as needed, whose length limit is at least ``seconds``."""
    words = source.split()

    def first_words(count: int) -> str:
        return " ".join((words * (count // len(words) + 1))[:count])

    def lasts(count: int) -> bool:
        return length_limit_s(model, first_words(count)) >= seconds

    enough = 1
    while not lasts(enough):
        enough *= 2
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if lasts(middle) else (middle, enough)
    return first_words(enough)


def length_limit_s(model: TTSModel, text: str) -> float:
    """Seconds after which the speech of ``text`` is cut off when its end is not detected."""
    chunks = model.split_text(text, MAX_TOKENS_PER_CHUNK)
    return sum(len(chunk.token_ids) / TOKENS_PER_SECOND_ESTIMATE + GENERATION_SECONDS_PADDING for chunk in chunks)


def memory_mb() -> tuple[float | None, float | None]:
    """Resident memory of this process now, and at its peak, in MiB; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None, _peak_from_rusage()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)

    def mebibytes(name: str) -> float | None:
        value = fields.get(name, "").split()
        return int(value[0]) / 1024 if value else None

    # Not from getrusage: after fork and exec its peak is that of the parent process, when that is higher.
    return mebibytes("VmRSS"), mebibytes("VmHWM") or _peak_from_rusage()


def _peak_from_rusage() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MEBIBYTE if sys.platform == "darwin" else peak / 1024


def synthetic_stems() -> list[str]:
    """What :func:`write_synthetic` takes."""
    return [*available_languages(), TINY]


def write_synthetic(stem: str, folder: str | Path, seed: int = 0) -> Path:
    """Write a checkpoint with random weights of the configuration ``stem``; returns its configuration's path.

    Another process does it, because its memory (twice the weights) would count in what is measured here.

    Raises:
        ConfigError: there is no such configuration.
        GenerationError: the process failed, for instance because the disk is full.
    """
    stems = synthetic_stems()
    if stem not in stems:
        raise ConfigError(f"There is no configuration {stem!r}: choose one of {', '.join(stems)}.")
    code = "import sys; from pockettts_fast import benchmark; benchmark.write_synthetic_here(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, stem, os.fspath(folder), str(seed)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise GenerationError(f"The synthetic model cannot be written to {os.fspath(folder)!r}: {lines[-1]}.")
    return Path(folder, "config.yaml").resolve()


def write_synthetic_here(stem: str, folder: str, seed: str) -> None:
    """The work of :func:`write_synthetic`, in the process that it starts."""
    import yaml

    from pockettts_fast.testing import tiny_config, write_checkpoint

    if stem == TINY:
        config: dict[str, Any] = tiny_config()
    else:
        config = yaml.safe_load(language_config_path(stem).read_text(encoding="utf-8"))
    write_checkpoint(folder, config, int(seed), eos_after=None)
