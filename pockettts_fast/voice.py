"""From what a caller names as a voice to a state of the language model.

A voice is a built-in name, a saved state (``.safetensors``), a recording, or an array of samples; files may be
local or at an ``hf://`` or ``https://`` address. Source: ``TTSModel.get_state_for_audio_prompt`` of
``pocket_tts.models.tts_model``.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pockettts_fast.audio.files import read_audio
from pockettts_fast.audio.prompt import as_prompt_array, prepare_prompt
from pockettts_fast.config import Config
from pockettts_fast.defaults import PREDEFINED_VOICE_RECORDINGS, predefined_voice_address, voices_for_language
from pockettts_fast.errors import AudioError, MissingFileError, VoiceError
from pockettts_fast.flow_lm import FlowLM
from pockettts_fast.hub import path_part, resolve, scheme_of
from pockettts_fast.mimi import LazyMimiEncoder
from pockettts_fast.voice_state import ModelState, check_model_state, read_model_state

logger = logging.getLogger(__name__)

_TRUNCATED_S = 30.0
_SHORTEST_S = 0.02

_NO_CLONING = (
    "This model was loaded without voice cloning, because its cloning weights are gated: accept the terms at "
    "https://huggingface.co/kyutai/pocket-tts and log in with `hf auth login`, or use a built-in voice ({voices})."
)


class VoiceReader:
    """Makes voice states for one model; safe to use from several threads."""

    def __init__(
        self,
        config: Config,
        flow_lm: FlowLM,
        encoder: LazyMimiEncoder,
        *,
        language: str | None,
        has_voice_cloning: bool,
        has_custom_weights: bool,
    ) -> None:
        self._config = config
        self._flow_lm = flow_lm
        self._encoder = encoder
        self._language = language
        self._has_voice_cloning = has_voice_cloning
        self._has_custom_weights = has_custom_weights

    @property
    def names(self) -> tuple[str, ...]:
        """Built-in voices of this model; none for custom weights."""
        if self._language is None or self._has_custom_weights:
            return ()
        return voices_for_language(self._language)

    def read(self, voice: Any, truncate: bool) -> ModelState:
        """The state for ``voice``; see :meth:`pockettts_fast.TTSModel.get_state_for_audio_prompt`."""
        if isinstance(voice, (str, Path)):
            return self._read_named(voice, truncate)
        samples = as_prompt_array(voice)
        if truncate:
            samples = samples[: int(_TRUNCATED_S * self._config.mimi.sample_rate)]
        return self._from_samples(samples, self._config.mimi.sample_rate, "The voice prompt")

    def _read_named(self, voice: str | Path, truncate: bool) -> ModelState:
        if path_part(voice).endswith(".safetensors"):
            return self._from_state_file(resolve(voice, what="voice"))
        if isinstance(voice, str) and (voice in self.names or voice in PREDEFINED_VOICE_RECORDINGS):
            return self._from_built_in(voice)
        self._check_exists(voice)
        self._check_cloning()
        path = resolve(voice, what="voice")
        samples, rate = read_audio(path, max_seconds=_TRUNCATED_S if truncate else None)
        return self._from_samples(samples, rate, f"The voice prompt {voice}")

    def _from_built_in(self, name: str) -> ModelState:
        if self._has_custom_weights:
            raise VoiceError(
                f"The built-in voice {name!r} is a state of the released weights and does not fit a training "
                "checkpoint; pass a recording of the voice instead."
            )
        if self._language is None:
            raise VoiceError(
                f"The built-in voice {name!r} belongs to a released language and this model has a custom "
                "configuration; pass a recording or a .safetensors state of the voice instead."
            )
        return self._from_state_file(resolve(predefined_voice_address(self._language, name), what="voice"))

    def _check_exists(self, voice: str | Path) -> None:
        """A word that is neither a file nor a built-in voice deserves an error that mentions both."""
        if scheme_of(voice) or Path(voice).exists():
            return
        known = f"one of {', '.join(self.names)}" if self.names else "none: the configuration is a custom one"
        raise _UnknownVoiceError(
            f"There is no file {str(voice)!r} and no built-in voice of this name; built-in voices here are {known}."
        )

    def _check_cloning(self) -> None:
        if not self._has_voice_cloning:
            raise VoiceError(_NO_CLONING.format(voices=", ".join(self.names) or "or a .safetensors state"))

    def _from_state_file(self, path: Path) -> ModelState:
        state = read_model_state(path)
        check_model_state(state, self._config)
        return state

    def _from_samples(self, samples: npt.NDArray[np.float32], rate: int, what: str) -> ModelState:
        self._check_cloning()
        if len(samples) < _SHORTEST_S * rate:
            raise AudioError(
                f"{what} is {1000 * len(samples) / rate:.3g} ms long: give at least 20 ms, best 5 to 30 s of speech."
            )
        prompt = prepare_prompt(samples, rate, self._config.mimi.sample_rate)
        logger.info("Encoding %.1f s of voice prompt", len(prompt) / self._config.mimi.sample_rate)
        return self._flow_lm.to_model_state(self._flow_lm.state_from_prompt(self._encoder.get().encode(prompt)))


class _UnknownVoiceError(VoiceError, MissingFileError):
    """Neither a voice nor a file; a FileNotFoundError too, which upstream raises."""
