"""Voice prompts: from any array of samples to the mono signal that the codec encodes."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from pockettts_fast.audio._dsp import fade_out_inplace, peak
from pockettts_fast.audio.files import MAX_CHANNELS
from pockettts_fast.audio.resample import resample_poly
from pockettts_fast.errors import AudioError

logger = logging.getLogger(__name__)

_FRAME_S = 0.02
_FADE_S = 0.02
_PAUSE_S = 0.08
_FLOOR_DB = np.float32(35.0)


def as_prompt_array(audio: Any) -> npt.NDArray[np.float32]:
    """A prompt given as an array -> mono float32 [T] at the same rate.

    Takes anything with `__array__` (NumPy, a CPU tensor of torch): [T], [1, T], or [C, T] with C <= 64,
    whose channels are averaged. Floats are taken as they are, int16 is divided by 32768; other types are
    refused, since their full scale is not known. The result never shares memory with the argument.

    Raises :class:`AudioError` for another type or shape, no samples, or a sample that is NaN or infinite.
    """
    if not hasattr(audio, "__array__"):
        raise AudioError(
            f"A voice prompt must be a path or an array of samples, got {type(audio).__name__}; "
            "wrap samples with numpy.asarray(..., dtype=numpy.float32)."
        )
    try:
        array = np.asarray(audio)
    except (TypeError, ValueError, RuntimeError) as err:
        raise AudioError(
            f"The voice prompt cannot be converted to a NumPy array ({err}); "
            "pass float32 samples that lie in main memory."
        ) from err
    if array.ndim not in (1, 2):
        raise AudioError(f"A voice prompt has shape [samples] or [channels, samples], got {array.shape}.")
    if array.size == 0:
        raise AudioError(f"The voice prompt holds no samples (shape {array.shape}).")
    if array.ndim == 2 and array.shape[0] > MAX_CHANNELS:
        raise AudioError(
            f"A voice prompt has at most {MAX_CHANNELS} channels, got shape {array.shape}; "
            "the expected order is [channels, samples], so it may have to be transposed."
        )
    if array.dtype != np.int16 and array.dtype.kind != "f":
        raise AudioError(
            f"A voice prompt holds floats within -1..1 or int16, got {array.dtype}; convert it to float32 first."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        samples = array.astype(np.float32)
        if array.dtype == np.int16:
            samples /= np.float32(32768.0)
        mono = samples if samples.ndim == 1 else samples.mean(axis=0, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise AudioError("The voice prompt holds NaN or infinite samples; pass finite float32 samples.")
    return np.ascontiguousarray(mono)


def end_on_pause(wav: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.float32]:
    """Cut wav float32 [T] after its last loud 20 ms frame, fade out 20 ms there, append 80 ms of zeros.

    Same samples as `end_on_pause` of upstream's `data/audio_utils.py`: a frame is loud when its RMS level
    is less than 35 dB below that of the loudest one, and samples after the last whole frame are dropped.
    Less than one frame comes back unchanged. Returns a new array.

    Raises :class:`AudioError` when the samples are so large that their power overflows float32.
    """
    frame = max(1, int(_FRAME_S * sample_rate))
    frames = wav.size // frame
    if frames == 0:
        return np.array(wav, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        power = np.square(wav[: frames * frame]).reshape(frames, frame).mean(axis=1, dtype=np.float64)
        level_db = np.float32(20.0) * np.log10(np.sqrt(power.astype(np.float32)) + np.float32(1e-12))
    loudest = level_db.max()
    if not np.isfinite(loudest):
        raise AudioError("The voice prompt is far too loud; samples are expected within -1..1.")
    end = (int(np.flatnonzero(level_db > loudest - _FLOOR_DB)[-1]) + 1) * frame
    ended = np.zeros(end + int(_PAUSE_S * sample_rate), dtype=np.float32)
    ended[:end] = wav[:end]
    fade_out_inplace(ended[:end], int(_FADE_S * sample_rate))
    return ended


def prepare_prompt(audio: npt.NDArray[np.float32], from_rate: int, to_rate: int) -> npt.NDArray[np.float32]:
    """audio float32 [T] at from_rate Hz -> the prompt float32 [T'] at to_rate Hz, ended on a pause.

    Resampled if the rates differ (:func:`resample_poly`), then :func:`end_on_pause`. Silence passes, as
    upstream lets it, with a warning in the log.

    Raises :class:`AudioError` for less than 20 ms of audio, or audio that cannot be resampled.
    """
    wav = audio if from_rate == to_rate else resample_poly(audio, to_rate, from_rate)
    if wav.size < max(1, int(_FRAME_S * to_rate)):
        raise AudioError(
            f"The voice prompt is too short ({audio.size} samples at {from_rate} Hz); at least 20 ms are "
            "needed, and several seconds of speech are recommended."
        )
    if peak(np.ascontiguousarray(wav)) == 0.0:
        logger.warning("The voice prompt is silent.")
    return end_on_pause(wav, to_rate)
