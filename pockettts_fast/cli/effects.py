"""What ``generate`` can do to the sound on request: block DC, fade, normalise. All off by default.

The work runs on chunks as they come. A fade holds back its own length; normalising needs the whole sound.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pockettts_fast.audio._dsp import DcBlock, fade_in_inplace, fade_out_inplace, peak

FloatArray = npt.NDArray[np.float32]

DC_CUTOFF_HZ = 20.0
"""Below what can be heard, and far below any voice."""
NORMAL_PEAK = 10.0 ** (-1.0 / 20.0)
"""-1 dB of full scale: room for what a player's resampler adds between the samples."""


@dataclass(frozen=True)
class Effects:
    """Which effects to apply; ``fade_ms`` is the length of each of the two fades in milliseconds."""

    dc_block: bool = False
    fade_ms: float = 0.0
    normalize: bool = False

    def apply(self, chunks: Iterable[FloatArray], sample_rate: int) -> Iterator[FloatArray]:
        """Chunks float32 ``[samples]`` -> chunks of the same total length."""
        processed = iter(chunks)
        if self.dc_block:
            processed = _without_dc(processed, sample_rate)
        fade_samples = round(self.fade_ms * sample_rate / 1000.0)
        if fade_samples > 0:
            processed = _faded(processed, fade_samples)
        if self.normalize:
            processed = _normalized(processed)
        return processed


def _without_dc(chunks: Iterator[FloatArray], sample_rate: int) -> Iterator[FloatArray]:
    blocker = DcBlock(DC_CUTOFF_HZ, sample_rate)
    for chunk in chunks:
        yield blocker.process(np.ascontiguousarray(chunk))


def _faded(chunks: Iterator[FloatArray], fade_samples: int) -> Iterator[FloatArray]:
    held = np.zeros(0, np.float32)
    faded_in = False
    for chunk in chunks:
        held = np.concatenate([held, chunk])
        if held.size < fade_samples:
            continue
        if not faded_in:
            fade_in_inplace(held, fade_samples)
            faded_in = True
        ready = held.size - fade_samples
        if ready > 0:
            yield held[:ready]
            held = held[ready:].copy()
    if not faded_in:
        fade_in_inplace(held, fade_samples)
    fade_out_inplace(held, fade_samples)
    yield held


def _normalized(chunks: Iterator[FloatArray]) -> Iterator[FloatArray]:
    parts = list(chunks)
    audio = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    loudest = peak(audio)
    if loudest > 0.0:
        audio *= np.float32(NORMAL_PEAK / loudest)
    yield audio
