"""Streams: the loop over frames, the two threads of a generation, cancellation.

A generation runs one thread for the language model and one for the codec, so that both compute at the same
time; the consumer's thread only waits. All three share one lock. Frames wait in a queue of bounded length: a
consumer that does not read stops the work instead of filling memory.
Source of the rules: ``pocket_tts.models.tts_model`` (``_autoregressive_generation``, ``_decode_audio_worker``).
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from pockettts_fast import _core
from pockettts_fast.audio._dsp import fade_in_inplace
from pockettts_fast.defaults import MIN_FRAMES_BEFORE_EOS
from pockettts_fast.errors import GenerationError
from pockettts_fast.flow_lm import FlowLM
from pockettts_fast.mimi import MimiDecoder
from pockettts_fast.sampling import NoiseSource

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

_FRAMES_AHEAD = 750
"""Frames (60 s of audio) the language model may be ahead of the consumer."""
_FRAMES_PER_DECODE = 4
"""Frames decoded a call when several wait: longer calls save little more, take megabytes and delay an end."""
_PREFILL_TOKENS = 64
"""Tokens fed a call: a chunk has fewer, and an endless word must not delay an end."""
_LEAD_S = 0.5
"""Once this much audio is decoded ahead of its playing, frames are decoded by the full call (see above): the codec's
weights are then read from memory once for all of them. 7 % more speed with int8-bf16 on two cores."""
_POLL_S = 0.05
"""How often a thread that waits looks whether it should end."""
_LONGEST_CALL_S = 5.0
"""More than a call of a stage lasts; see :meth:`_Pipeline.cancel`."""


@dataclass(frozen=True)
class Part:
    """One text chunk of a generation.

    Attributes:
        token_ids: what the language model reads.
        frames_after_eos: frames to go on after the end of speech is detected.
        max_frames: bound on the length.
        open_state: makes the stream's state, positioned behind the voice.
        close_state: takes the state back when the part has ended, or None.
    """

    token_ids: Sequence[int]
    frames_after_eos: int
    max_frames: int
    open_state: "Callable[[], _core.BackboneState]"
    close_state: "Callable[[_core.BackboneState], None] | None" = None


@dataclass
class GenerationReport:
    """Facts of a generation, filled while it runs. Times in seconds; stage times are sums over calls."""

    seed: int | None = None
    chunks: int = 0
    frames: int = 0
    samples: int = 0
    reached_limit: bool = False
    first_audio_s: float = 0.0
    elapsed_s: float = 0.0
    prefill_s: float = 0.0
    lm_s: float = 0.0
    codec_s: float = 0.0


class _Thread(threading.Thread):
    """A thread of a generation."""


def _nobody_can_read() -> bool:
    """Whether the main thread is over and no other thread keeps the process alive for its own work.

    The threads of a generation are no daemons, which could not be ended in the middle of a computation; a
    process that waits for them would never end if they did not see that all others are gone.
    """
    if threading.main_thread().is_alive():
        return False
    others = (thread for thread in threading.enumerate() if not isinstance(thread, _Thread))
    return all(thread.daemon or not thread.is_alive() for thread in others)


@dataclass(frozen=True)
class _Frame:
    latent: FloatArray
    starts_part: bool


class _Pipeline:
    """What the threads of one generation share. Knows nothing of the object the consumer holds."""

    def __init__(
        self,
        flow_lm: FlowLM,
        decoder: MimiDecoder,
        parts: Sequence[Part],
        noise: NoiseSource,
        eos_threshold: float,
        fade_samples: int,
        frame_s: float,
        stop: threading.Event | None,
        report: GenerationReport,
    ) -> None:
        self._flow_lm = flow_lm
        self._decoder = decoder
        self._parts = parts
        self._noise = noise
        self._eos_threshold = np.float32(eos_threshold)
        self._fade_samples = fade_samples
        self._frame_s = frame_s
        self._stop = stop
        self._report = report
        self._changed = threading.Condition()
        self._frames: deque[_Frame] = deque()
        self._audio: deque[FloatArray] = deque()
        self._audio_frames = 0
        self._decoded_calls = 0
        self._all_generated = False
        self._all_decoded = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._threads = [
            _Thread(target=self._guard, args=(self._generate,), name="pockettts-lm"),
            _Thread(target=self._guard, args=(self._decode,), name="pockettts-codec"),
        ]
        self._started_at = 0.0

    # --- the consumer's side -------------------------------------------------------------------------

    def start(self) -> None:
        self._started_at = time.perf_counter()
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.cancel()
            raise

    def next_audio(self) -> FloatArray | None:
        """The next chunk of samples, or None at the end."""
        with self._changed:
            while not (self._audio or self._all_decoded or self._should_end()):
                self._changed.wait(_POLL_S if self._stop is not None else None)
            if self._error is not None:
                raise self._error
            if not self._audio or self._should_end():
                return None
            audio = self._audio.popleft()
            self._audio_frames -= len(audio) // self._decoder.samples_per_frame
            self._changed.notify_all()
        if self._report.samples == 0:
            self._report.first_audio_s = time.perf_counter() - self._started_at
        self._report.samples += len(audio)
        self._report.elapsed_s = time.perf_counter() - self._started_at
        return audio

    def abandon(self) -> None:
        """Ends both threads soon, without a lock and without waiting.

        What the garbage collector calls may run anywhere, even in one of these threads within its lock.
        """
        self._cancelled = True

    def cancel(self) -> None:
        """Ends both threads after the call they are in, and waits for that."""
        self.abandon()
        if threading.get_ident() in (thread.ident for thread in self._threads):
            return
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                # Bounded, since a generator around the stream may be closed by the garbage collector too.
                thread.join(_LONGEST_CALL_S)

    # --- the threads' side ---------------------------------------------------------------------------

    def _should_end(self) -> bool:
        return self._cancelled or (self._stop is not None and self._stop.is_set()) or _nobody_can_read()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as err:
            with self._changed:
                self._error = self._error or err
                self._cancelled = True
        finally:
            with self._changed:
                if work == self._generate:
                    self._all_generated = True
                else:
                    self._all_decoded = True
                self._changed.notify_all()

    def _put_frame(self, frame: _Frame) -> None:
        with self._changed:
            while len(self._frames) + self._audio_frames >= _FRAMES_AHEAD and not self._should_end():
                self._changed.wait(_POLL_S)
            self._frames.append(frame)
            self._changed.notify_all()
            # The first frame has all cores: the listener waits for it, and for nothing else.
            while self._decoded_calls == 0 and not (self._all_decoded or self._should_end()):
                self._changed.wait(_POLL_S)

    def _generate(self) -> None:
        for part in self._parts:
            if self._should_end():
                return
            self._generate_part(part)
            self._report.chunks += 1

    def _generate_part(self, part: Part) -> None:
        report = self._report
        before = time.perf_counter()
        state = part.open_state()
        try:
            for start in range(0, len(part.token_ids), _PREFILL_TOKENS):
                if self._should_end():
                    return
                self._flow_lm.prefill_text(state, part.token_ids[start : start + _PREFILL_TOKENS])
            self._noise.discard()
            report.prefill_s += time.perf_counter() - before
            latent = np.full((1, self._flow_lm.latent_dim), np.nan, np.float32)
            eos_step: int | None = None
            for step in range(part.max_frames):
                if self._should_end():
                    return
                before = time.perf_counter()
                latent, end = self._flow_lm.step([state], latent, self._noise.draw()[None])
                report.lm_s += time.perf_counter() - before
                if eos_step is None and step >= MIN_FRAMES_BEFORE_EOS and end[0] > self._eos_threshold:
                    eos_step = step
                if eos_step is not None and step >= eos_step + part.frames_after_eos:
                    return
                report.frames += 1
                self._put_frame(_Frame(latent, starts_part=step == 0))
            report.reached_limit = True
            logger.warning(
                "The end of speech was not detected within %d frames: the audio may be cut or hold noise.",
                part.max_frames,
            )
        finally:
            if part.close_state is not None:
                part.close_state(state)

    def _take_frames(self, least: int, most: int) -> list[_Frame]:
        """Waiting frames of one part, at most ``most``; none at the end. Waits until there are ``least``."""
        with self._changed:
            while not (len(self._frames) >= least or self._all_generated or self._should_end()):
                self._changed.wait(_POLL_S)
            taken: list[_Frame] = []
            while self._frames and len(taken) < most and not (taken and self._frames[0].starts_part):
                taken.append(self._frames.popleft())
            self._audio_frames += len(taken)
            return [] if self._should_end() else taken

    def _decode(self) -> None:
        state = self._decoder.new_state()
        first_at, decoded_s = 0.0, 0.0
        # The first frame never waits for a second one.
        least = most = 1
        while frames := self._take_frames(least, most):
            before = time.perf_counter()
            if frames[0].starts_part:
                state = self._decoder.new_state()
            audio = self._decoder.step([state], [np.concatenate([frame.latent for frame in frames])])[0]
            if frames[0].starts_part:
                # A fresh codec state starts with a small step, heard as a click.
                fade_in_inplace(audio, self._fade_samples)
            self._report.codec_s += time.perf_counter() - before
            with self._changed:
                self._audio.append(audio)
                self._decoded_calls += 1
                self._changed.notify_all()
            now = time.perf_counter()
            first_at = first_at or now
            decoded_s += len(frames) * self._frame_s
            most = _FRAMES_PER_DECODE
            least = most if decoded_s - (now - first_at) > _LEAD_S else 1


class AudioStream(Generator[FloatArray, None, None]):
    """Chunks of audio as they are made: float32 ``[samples]``. An iterator with ``close()``.

    The work starts with the first ``next()``. Closing or dropping the stream ends it within one frame. Not for
    use by several threads at once.

    Attributes:
        report: facts of the run (:class:`GenerationReport`), complete when the stream has ended.
    """

    def __init__(self, make_pipeline: "Callable[[GenerationReport], _Pipeline]", report: GenerationReport) -> None:
        self.report = report
        self._make_pipeline = make_pipeline
        self._pipeline: _Pipeline | None = None
        self._ended = False
        self._pid = os.getpid()

    def send(self, value: None = None, /) -> FloatArray:
        if self._ended:
            raise StopIteration
        if self._pid != os.getpid():
            self._ended = True
            raise GenerationError("This audio stream was started before fork(): start a new one in this process.")
        try:
            if self._pipeline is None:
                self._pipeline = self._make_pipeline(self.report)
                self._pipeline.start()
            audio = self._pipeline.next_audio()
        except BaseException:
            self.close()
            raise
        if audio is None:
            self.close()
            raise StopIteration
        return audio

    def throw(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> FloatArray:
        self.close()
        raise typ if val is None else val if isinstance(val, BaseException) else typ(val)

    def close(self) -> None:
        """Ends the generation and waits for its threads. Safe to call again."""
        self._ended = True
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None and self._pid == os.getpid():
            pipeline.cancel()

    def __del__(self) -> None:
        pipeline = getattr(self, "_pipeline", None)
        if pipeline is not None:
            pipeline.abandon()


def stream_audio(
    flow_lm: FlowLM,
    decoder: MimiDecoder,
    parts: Sequence[Part],
    noise: NoiseSource,
    *,
    eos_threshold: float,
    fade_samples: int,
    frame_s: float,
    stop: threading.Event | None,
    seed: int | None,
) -> AudioStream:
    """Speaks ``parts`` one after the other; nothing is computed before the first ``next()``."""

    def make_pipeline(report: GenerationReport) -> _Pipeline:
        return _Pipeline(flow_lm, decoder, parts, noise, eos_threshold, fade_samples, frame_s, stop, report)

    return AudioStream(make_pipeline, GenerationReport(seed=seed))
