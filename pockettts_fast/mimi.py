"""The codec stages: latents to samples, and a voice prompt's samples to latents.

Binds a configuration and its checkpoint names to ``_core.CodecDecoder`` and ``_core.CodecEncoder``.
Source of the rules: ``pocket_tts.models.mimi``.
"""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from pockettts_fast import _core
from pockettts_fast.config import Config, MimiTransformerConfig, SEANetConfig
from pockettts_fast.weights import WeightSet

FloatArray = npt.NDArray[np.float32]

_ENCODER_FRAMES = 4
"""Frames encoded a call: longer calls are no faster (12: 3 %) and take megabytes each; changes no bit."""


def _seanet_shape(seanet: SEANetConfig) -> dict[str, Any]:
    return {
        "dimension": seanet.dimension,
        "channels": seanet.channels,
        "filters": seanet.n_filters,
        "residual_layers": seanet.n_residual_layers,
        "ratios": list(seanet.ratios),
        "kernel": seanet.kernel_size,
        "residual_kernel": seanet.residual_kernel_size,
        "last_kernel": seanet.last_kernel_size,
        "dilation_base": seanet.dilation_base,
        "compress": seanet.compress,
        "replicate": seanet.pad_mode == "replicate",
    }


def _transformer_shape(transformer: MimiTransformerConfig) -> dict[str, Any]:
    return {
        "input": transformer.input_dimension,
        "model": transformer.d_model,
        "output": transformer.output_dimension,
        "layers": transformer.num_layers,
        "heads": transformer.num_heads,
        "kv_heads": transformer.num_heads,
        "attention_dim": transformer.d_model,
        "feedforward": transformer.dim_feedforward,
        "window": transformer.context,
        "max_period": float(transformer.max_period),
        "layer_scale": True,
    }


class MimiDecoder:
    """Normalised latents to samples; immutable, shared by all streams."""

    def __init__(self, config: Config, weights: WeightSet, pool: "_core.Pool", precision: str = "float32") -> None:
        """Packs the weights; ``precision`` is ``"float32"`` or ``"bf16"``."""
        mimi = config.mimi
        shape = {
            "precision": precision,
            "seanet": _seanet_shape(mimi.decoding_seanet),
            "transformer": _transformer_shape(mimi.decoding_transformer),
            "resample": mimi.resample_stride,
            "latent": config.latent_dim,
            "outer": mimi.quantizer.output_dimension,
        }
        # emb_std and emb_mean are stored with the language model and belong to the way to the codec.
        tensors = weights.stage("mimi.", "flow_lm.emb_")
        tensors["emb_std"], tensors["emb_mean"] = tensors.pop("std"), tensors.pop("mean")
        self._stage = _core.CodecDecoder(pool, tensors, shape)
        self.samples_per_frame: int = self._stage.samples_per_latent

    def new_state(self) -> "_core.CodecState":
        """The state before the first frame of an utterance."""
        return self._stage.new_state()

    def step(self, states: "list[_core.CodecState]", latents: list[FloatArray]) -> list[FloatArray]:
        """Decodes ``latents[i]`` [frames, latent_dim] of stream i to float32 samples [frames * samples_per_frame]."""
        return self._stage.step(states, latents)


class MimiEncoder:
    """Samples of a voice prompt to latents."""

    def __init__(self, config: Config, weights: WeightSet, pool: "_core.Pool") -> None:
        mimi = config.mimi
        shape = {
            # A voice is encoded once and heard in every sentence: always exact.
            "precision": "float32",
            "seanet": _seanet_shape(mimi.seanet),
            "transformer": _transformer_shape(mimi.transformer),
            "resample": mimi.resample_stride,
            "latent": mimi.conditioning_dim,
            "outer": 0,
        }
        self._stage = _core.CodecEncoder(pool, weights.stage("mimi."), shape)

    def encode(self, pcm: FloatArray) -> FloatArray:
        """float32 samples [T] at the codec's rate -> latents [ceil(T / frame size), conditioning_dim].

        The last frame is completed with zeros.
        """
        frame_size: int = self._stage.samples_per_latent
        frames = np.pad(pcm, (0, -len(pcm) % frame_size)).reshape(-1, frame_size)
        state = self._stage.new_state()
        parts = [
            self._stage.step([state], [frames[start : start + _ENCODER_FRAMES]])[0]
            for start in range(0, len(frames), _ENCODER_FRAMES)
        ]
        return np.concatenate(parts)


class LazyMimiEncoder:
    """The encoder, packed at the first recording: speech with saved voices never needs it.

    Owns the weights until then and closes them; safe to use from several threads.
    """

    def __init__(self, config: Config, weights: WeightSet, pool: "_core.Pool") -> None:
        self._config = config
        self._weights: WeightSet | None = weights
        self._pool = pool
        self._encoder: MimiEncoder | None = None
        self._lock = threading.Lock()

    def get(self) -> MimiEncoder:
        with self._lock:
            if self._encoder is None:
                assert self._weights is not None
                self._encoder = MimiEncoder(self._config, self._weights, self._pool)
                self._weights.close()
                self._weights = None
            return self._encoder
