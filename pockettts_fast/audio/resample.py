"""Change of sample rate by a rational factor, equal to `scipy.signal.resample_poly` with its defaults."""

import math

import numpy as np
import numpy.typing as npt

from pockettts_fast.audio._dsp import polyphase
from pockettts_fast.errors import AudioError

# Half of the filter, in samples of the slower rate, and the shape of its window: scipy's defaults.
_HALF_LENGTH = 10
_KAISER_BETA = 5.0

# Two rates without a common divisor need a filter of 10 x the larger one: 84 MB at this limit, which lies
# above the fastest rate that audio files are accepted with.
MAX_FACTOR = 1 << 20

# The filter is designed in blocks that stay in the cache, so an awkward ratio needs no large temporaries.
_DESIGN_BLOCK = 1 << 15


def _half_lowpass(up: int, down: int) -> npt.NDArray[np.float64]:
    """Right half h[0..H] of the anti-aliasing filter, H = 10 max(up, down).

    A sinc with its cutoff at the slower rate's Nyquist frequency under a Kaiser window (beta 5), scaled to
    a sum of `up` over the whole symmetric filter: what `scipy.signal.firwin` designs for `resample_poly`.
    """
    slower = max(up, down)
    reach = _HALF_LENGTH * slower
    half = np.empty(reach + 1)
    for start in range(0, reach + 1, _DESIGN_BLOCK):
        distance = np.arange(start, min(start + _DESIGN_BLOCK, reach + 1), dtype=np.float64)
        window = np.i0(_KAISER_BETA * np.sqrt(1.0 - (distance / reach) ** 2))
        half[start : start + distance.size] = np.sinc(distance / slower) * window
    half *= up / (half[0] + 2.0 * float(half[1:].sum()))
    return half


def resample_poly(x: npt.NDArray[np.float32], up: int, down: int) -> npt.NDArray[np.float32]:
    """Resample x float32 [T] by up / down -> float32 [ceil(T up / down)].

    Equals `scipy.signal.resample_poly(x, up, down)` (Kaiser window of beta 5, zeros outside of the signal),
    with the products summed in double. Cost: about 20 max(1, down / up) products an output; memory for an
    awkward ratio: 80 bytes x max(up, down) after dividing by their common divisor.

    Raises :class:`AudioError` for an array that is not 1-D or a ratio that is not positive or is above
    `MAX_FACTOR` in lowest terms.
    """
    if x.ndim != 1:
        raise AudioError(f"Resampling takes one channel [samples], got shape {x.shape}.")
    if up < 1 or down < 1:
        raise AudioError(f"Resampling needs positive whole rates, got {up} / {down}.")
    divisor = math.gcd(up, down)
    up //= divisor
    down //= divisor
    if max(up, down) > MAX_FACTOR:
        raise AudioError(
            f"Resampling by {up} / {down} is not supported: in lowest terms both numbers may be at most "
            f"{MAX_FACTOR}; convert the audio to a common rate first."
        )
    samples = np.ascontiguousarray(x, dtype=np.float32)
    if up == down:
        return np.array(samples)
    outputs = -(-samples.size * up // down)
    return polyphase(samples, _half_lowpass(up, down), up, down, outputs)
