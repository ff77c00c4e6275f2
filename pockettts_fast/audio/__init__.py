"""Audio in and out: files, resampling, voice prompts, and 16-bit WAV."""

from pockettts_fast.audio.files import read_audio
from pockettts_fast.audio.prompt import as_prompt_array, prepare_prompt
from pockettts_fast.audio.resample import resample_poly
from pockettts_fast.audio.wav import UPSTREAM_TAIL_SILENCE_S, WavWriter, write_wav

__all__ = [
    "UPSTREAM_TAIL_SILENCE_S",
    "WavWriter",
    "as_prompt_array",
    "prepare_prompt",
    "read_audio",
    "resample_poly",
    "write_wav",
]
