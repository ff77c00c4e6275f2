"""The public class: load a model, make voices, speak. Same names and meanings as ``pocket_tts.TTSModel`` 4.0.1."""

import logging
import math
import operator
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pockettts_fast import _core, engine
from pockettts_fast import text as text_rules
from pockettts_fast.config import Config, language_config_path, load_config
from pockettts_fast.defaults import (
    DEFAULT_LANGUAGE,
    DEFAULT_NOISE_CLAMP,
    DEFAULT_SAMPLER_DECODE_STEPS,
    DEMO_LANGUAGE,
    GENERATION_SECONDS_PADDING,
    MAX_TOKENS_PER_CHUNK,
    TOKENS_PER_SECOND_ESTIMATE,
)
from pockettts_fast.errors import ConfigError
from pockettts_fast.flow_lm import FlowLM
from pockettts_fast.mimi import LazyMimiEncoder, MimiDecoder
from pockettts_fast.sampling import NoiseSource
from pockettts_fast.text import TextChunk, TextOptions
from pockettts_fast.tokenizer import load_tokenizer
from pockettts_fast.voice import VoiceReader
from pockettts_fast.voice_state import ModelState
from pockettts_fast.voice_state import export_model_state as write_model_state
from pockettts_fast.weights import WeightSet, load_tensors

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

PRECISIONS = {"float32": ("float32", "float32"), "int8": ("int8", "float32"), "int8-bf16": ("int8", "bf16")}
"""Name -> arithmetic of the language model and of the codec's decoder."""
_DEMO_NOTICE = "The demo model has random weights: it shows that everything runs, but it makes noise, not speech."
_MOST_THREADS = 1024
_FADES_PER_SECOND = 200  # every text chunk fades in over 5 ms


class TTSModel:
    """A loaded model: immutable, shared by any number of threads and streams.

    Make one with :meth:`load_model`.

    Attributes:
        config: the model's :class:`~pockettts_fast.config.Config`.
        temp: sampling temperature in use (variance of the noise).
        sampler_decode_steps: steps of the flow head per frame.
        noise_clamp: bound on the noise, or None.
        eos_threshold: the end of speech is detected when its logit is strictly greater.
        has_voice_cloning: whether recordings can be used as voices.
        precision: arithmetic in use.
        notice: one line the user should see about this model, or None.
    """

    def __init__(
        self,
        config: Config,
        weights: WeightSet,
        *,
        temp: float,
        sampler_decode_steps: int,
        noise_clamp: float | None,
        eos_threshold: float,
        threads: int,
        language: str | None,
        precision: str = "float32",
    ) -> None:
        """Packs ``weights`` for this processor and takes ownership of them; use :meth:`load_model`."""
        self.config = config
        self.temp = temp
        self.sampler_decode_steps = sampler_decode_steps
        self.noise_clamp = noise_clamp
        self.eos_threshold = eos_threshold
        self.has_voice_cloning = weights.has_voice_cloning
        self.precision = precision
        self.notice = _DEMO_NOTICE if language == DEMO_LANGUAGE else None
        try:
            # Fail here rather than in the middle of a first sentence.
            NoiseSource(0, config.latent_dim, temp, noise_clamp)
        except ValueError as err:
            raise ConfigError(str(err)) from None
        table = config.flow_lm.lookup_table
        self._tokenizer = load_tokenizer(table.n_bins, table.tokenizer_path, table.tokenizer)
        self._text_options = TextOptions.from_config(config)
        self._pool = _core.Pool(threads)
        self._flow_lm = FlowLM(config, weights, self._pool, sampler_decode_steps, PRECISIONS[precision][0])
        weights.advise_dontneed()
        self._decoder = MimiDecoder(config, weights, self._pool, PRECISIONS[precision][1])
        weights.advise_dontneed()
        self._voices = VoiceReader(
            config,
            self._flow_lm,
            LazyMimiEncoder(config, weights, self._pool),
            language=language,
            has_voice_cloning=weights.has_voice_cloning,
            has_custom_weights=weights.has_custom_weights,
        )

    @classmethod
    def load_model(
        cls,
        language: str | None = None,
        config: str | Path | None = None,
        temp: float | None = None,
        sampler_decode_steps: int = DEFAULT_SAMPLER_DECODE_STEPS,
        noise_clamp: float | None = DEFAULT_NOISE_CLAMP,
        eos_threshold: float | None = None,
        quantize: bool = False,
        checkpoint: str | Path | None = None,
        lsd_decode_steps: int | None = None,
        *,
        precision: str = "float32",
        threads: int | None = None,
    ) -> "TTSModel":
        """Load a model, downloading what is not in the cache.

        Args:
            language: a released model (``pockettts-fast voices`` lists languages), or ``"demo"``, which lies in
                the package. Default ``"english"``. Not together with ``config``.
            config: YAML configuration: a path, an ``https://`` or an ``hf://repo/file[@revision]`` address.
            temp: temperature (variance of the noise); default from the configuration. 0 is legal.
            sampler_decode_steps: steps of the flow head per frame, at least 1.
            noise_clamp: truncates the noise to this magnitude; None for no bound.
            eos_threshold: speech ends when its logit is strictly greater; default from the configuration.
            quantize: the same as ``precision="int8"``.
            checkpoint: training checkpoint (``.pt``) to play instead of the configuration's weights; needs torch.
            lsd_decode_steps: deprecated name of ``sampler_decode_steps``.
            precision: ``"float32"`` (exact); ``"int8"``: the language model's linears in int8, with scales per output
                channel and, found on the fly, per row; ``"int8-bf16"``: the codec's decoder in bfloat16 besides.
            threads: most cores to use at once; default: those of the affinity mask, lowered by a CPU quota.

        Raises:
            ConfigError, MissingFileError: no such language or file, or an impossible configuration or argument.
            WeightsError, TokenizerError: a file is damaged or does not fit the configuration.
            DownloadError: a file is neither cached nor downloadable now.
        """
        if language is not None and config is not None:
            raise ConfigError("Both language and config are given: choose one of them.")
        precision = _checked_precision(quantize, precision)
        if lsd_decode_steps is not None:
            logger.warning("lsd_decode_steps is deprecated: use sampler_decode_steps.")
            sampler_decode_steps = lsd_decode_steps
        steps = _whole("sampler_decode_steps", sampler_decode_steps, 1)
        cores = _core.usable_cores() if threads is None else _whole("threads", threads, 1, _MOST_THREADS)
        try:
            _core.active_isa()
        except ValueError as err:
            raise ConfigError(f"{str(err)[:1].upper()}{str(err)[1:]}.") from None
        if config is None:
            language = DEFAULT_LANGUAGE if language is None else language
            config = language_config_path(language)
        model_config = load_config(config)
        temp = _number("temp", model_config.default_temperature if temp is None else temp)
        noise_clamp = None if noise_clamp is None else _number("noise_clamp", noise_clamp)
        eos_threshold = _number(
            "eos_threshold", model_config.default_eos_threshold if eos_threshold is None else eos_threshold
        )
        logger.info("Loading model from %s", config)
        weights = load_tensors(model_config, checkpoint)
        try:
            model = cls(
                model_config,
                weights,
                temp=temp,
                sampler_decode_steps=steps,
                noise_clamp=noise_clamp,
                eos_threshold=eos_threshold,
                threads=cores,
                language=language,
                precision=precision,
            )
        except BaseException:
            weights.close()
            raise
        if model.notice:
            logger.warning(model.notice)
        return model

    # --- facts ---------------------------------------------------------------------------------------

    @property
    def sample_rate(self) -> int:
        """Samples a second, usually 24000."""
        return self.config.mimi.sample_rate

    @property
    def device(self) -> str:
        """Always ``"cpu"``."""
        return "cpu"

    @property
    def threads(self) -> int:
        """Most cores used at once."""
        return self._pool.threads

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the built-in voices of this model; empty for a custom configuration."""
        return self._voices.names

    def to(self, device: Any) -> "TTSModel":
        """For callers of the original: accepts the CPU and returns the model."""
        if str(device).partition(":")[0] != "cpu":
            raise ConfigError(f"The device {str(device)!r} is not supported: this runtime computes on 'cpu'.")
        return self

    def eval(self) -> "TTSModel":
        """For callers of the original: a loaded model is always ready for inference."""
        return self

    # --- voices --------------------------------------------------------------------------------------

    def get_state_for_audio_prompt(self, audio_conditioning: Any, truncate: bool = False) -> ModelState:
        """The state of the language model after hearing a voice.

        Args:
            audio_conditioning: a built-in name (see :attr:`voices`); a path, ``hf://`` or ``https://`` address of
                a recording or of a saved ``.safetensors`` state; or an array of samples at :attr:`sample_rate`,
                float in -1..1 or int16, ``[samples]`` or ``[channels, samples]``.
            truncate: use only the first 30 seconds of a recording.

        Returns:
            A dictionary of arrays (:data:`~pockettts_fast.voice_state.ModelState`), exchangeable with the original.

        Raises:
            VoiceError, MissingFileError: an unknown voice, a state of another model, or cloning without its weights.
            AudioError: a recording that cannot be read, or holds nothing usable.
            DownloadError: the voice is neither cached nor downloadable now.
        """
        return self._voices.read(audio_conditioning, truncate)

    def export_model_state(self, model_state: ModelState, dest: str | Path) -> None:
        """Save a voice as ``.safetensors``; see :func:`pockettts_fast.export_model_state`."""
        write_model_state(model_state, dest)

    # --- speech --------------------------------------------------------------------------------------

    def split_text(self, text: str, max_tokens: int = MAX_TOKENS_PER_CHUNK) -> list[TextChunk]:
        """The chunks that ``text`` is spoken in: objects with ``text``, ``token_ids``, ``frames_after_eos``.

        Raises:
            TextError: the text is empty or not valid Unicode.
        """
        return text_rules.split_text(self._tokenizer, text, self._text_options, max_tokens)

    def generate_audio(
        self,
        model_state: ModelState,
        text_to_generate: str,
        max_tokens: int = MAX_TOKENS_PER_CHUNK,
        frames_after_eos: int | None = None,
        copy_state: bool = True,
        *,
        seed: int | None = None,
    ) -> FloatArray:
        """Speak a text; returns float32 samples ``[samples]`` at :attr:`sample_rate`.

        Arguments and errors: :meth:`generate_audio_stream`.
        """
        chunks = list(
            self.generate_audio_stream(
                model_state, text_to_generate, max_tokens, frames_after_eos, copy_state, seed=seed
            )
        )
        return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)

    def generate_audio_stream(
        self,
        model_state: ModelState,
        text_to_generate: str,
        max_tokens: int = MAX_TOKENS_PER_CHUNK,
        frames_after_eos: int | None = None,
        copy_state: bool = True,
        stop: threading.Event | None = None,
        *,
        seed: int | None = None,
    ) -> engine.AudioStream:
        """Speak a text as a stream of chunks: the first after one frame (80 ms), later ones whatever is ready.

        Arguments are checked at once; the work starts with the first ``next()``. Closing or dropping the stream,
        or setting ``stop``, ends its work within one frame.

        Args:
            model_state: a voice from :meth:`get_state_for_audio_prompt`.
            text_to_generate: the text; it is prepared and split as :meth:`split_text` shows.
            max_tokens: most tokens spoken at once.
            frames_after_eos: frames to go on after the end of speech; default from the configuration or the text.
            copy_state: leave ``model_state`` as it is. If False, it is advanced: each chunk continues the last.
            stop: event to cancel the generation from another thread; the stream then just ends.
            seed: seed of the noise, as ``torch.manual_seed`` takes it; the samples equal the original's for the
                same seed. None: a random one, found in ``report.seed`` of the stream.

        Returns:
            An iterator of float32 arrays ``[samples]`` with ``close()`` and ``report``.

        Raises:
            TextError, VoiceError, ValueError: an argument is unusable.
        """
        if seed is None:
            seed = int.from_bytes(os.urandom(4), "little")
        try:
            noise = NoiseSource(seed, self.config.latent_dim, self.temp, self.noise_clamp)
        except ValueError as err:
            raise ConfigError(str(err)) from None
        if frames_after_eos is None:
            frames_after_eos = self.config.model_recommended_frames_after_eos
        else:
            frames_after_eos = _whole("frames_after_eos", frames_after_eos, 0)
        if stop is not None and not hasattr(stop, "is_set"):
            raise ConfigError(f"stop is {stop!r}: give a threading.Event.")
        chunks = self.split_text(text_to_generate, max_tokens)
        return engine.stream_audio(
            self._flow_lm,
            self._decoder,
            self._parts(chunks, model_state, frames_after_eos, copy_state),
            noise,
            eos_threshold=self.eos_threshold,
            fade_samples=self.sample_rate // _FADES_PER_SECOND,
            frame_s=1.0 / self.config.mimi.frame_rate,
            stop=stop,
            seed=seed,
        )

    def _parts(
        self, chunks: Sequence[TextChunk], voice: ModelState, frames_after_eos: int | None, copy_state: bool
    ) -> list[engine.Part]:
        lengths = [self._max_frames(len(chunk.token_ids)) for chunk in chunks]
        room = max((n + len(chunk.token_ids) for n, chunk in zip(lengths, chunks, strict=True)), default=0)
        # Packed once and checked now, so that an unusable voice is an error of this call.
        packed_voice = self._flow_lm.state_from_voice(voice, room)

        def continue_voice() -> "_core.BackboneState":
            return self._flow_lm.state_from_voice(voice, room)

        def write_back(state: "_core.BackboneState") -> None:
            voice.update(self._flow_lm.to_model_state(state))

        parts = []
        for index, (chunk, max_frames) in enumerate(zip(chunks, lengths, strict=True)):
            open_state = packed_voice.copy if index + 1 < len(chunks) else lambda: packed_voice
            part = engine.Part(
                token_ids=chunk.token_ids,
                frames_after_eos=chunk.frames_after_eos if frames_after_eos is None else frames_after_eos,
                max_frames=max_frames,
                # Every chunk starts from the voice; without copy_state from where the last one left it.
                open_state=open_state if copy_state else continue_voice,
                close_state=None if copy_state else write_back,
            )
            parts.append(part)
        return parts

    def _max_frames(self, tokens: int) -> int:
        seconds = tokens / TOKENS_PER_SECOND_ESTIMATE + GENERATION_SECONDS_PADDING
        return math.ceil(seconds * self.config.mimi.frame_rate)


def export_model_state(model_state: ModelState, dest: str | Path) -> None:
    """Save a voice state as ``.safetensors``, readable by the original too.

    Raises:
        OutputError: the file cannot be written; nothing is left under its name.
        VoiceError: the mapping is not a state.
    """
    write_model_state(model_state, dest)


def _checked_precision(quantize: bool, precision: str) -> str:
    if precision not in PRECISIONS:
        raise ConfigError(f"The precision {precision!r} does not exist: choose one of {', '.join(PRECISIONS)}.")
    return "int8" if quantize and precision == "float32" else precision


def _whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least or (most is not None and number > most):
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(f"{name} is {value!r}: give a whole number {bound}.")
    return number


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise ConfigError(f"{name} is {value!r}: give a number.")
    return number
