"""Tiny models for tests: named configurations that together use every feature of the schema.

Nothing touches a file: the stages are built from the arrays of `random_weights`.
"""

import copy
import functools
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from pockettts_fast import _core
from pockettts_fast.config import Config, config_from_dict
from pockettts_fast.flow_lm import FlowLM
from pockettts_fast.mimi import MimiDecoder, MimiEncoder
from pockettts_fast.safetensors_file import TensorView
from pockettts_fast.testing import random_weights, tiny_config
from pockettts_fast.weights import WeightSet

FLOW_TYPES = ("lsd", "flow_matching", "drifting", "pointwise")

_SWITCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "flow_matching": {"flow_type": "flow_matching"},
    "drifting": {"flow_type": "drifting", "flow_depth": 3},
    "pointwise": {"flow_type": "pointwise", "latent_dim": 20},
    "grouped": {"num_kv_heads": 2, "attn_dim": 32, "dim_feedforward": 24, "num_layers": 3},
    "one_kv_head": {"num_kv_heads": 1, "insert_bos_before_voice": False, "flow_type": "flow_matching"},
    "projected": {"z_dim": 8, "rank": 4, "d_model": 24, "num_heads": 3, "flow_dim": 20, "latent_dim": 8},
    "separate_decoder": {"separate_decoder": True, "inner_dim": 8, "z_dim": 12, "flow_type": "drifting"},
    "deep_codec": {"n_residual_layers": 2, "dilation_base": 3, "context": 10, "ratios": (3, 2)},
    "wide_window": {"context": 250, "ratios": (2, 2), "insert_bos_before_voice": False},
    "replicated": {"n_residual_layers": 2},
    "codec_projections": {},
    "grouped_upsampling": {},
    "no_resampling": {},
}
NAMES = tuple(_SWITCHES)


def document(name: str, **more: Any) -> dict[str, Any]:
    """The configuration `name` as a YAML file would hold it."""
    out = copy.deepcopy(tiny_config(**(_SWITCHES[name] | more)))
    mimi = out["mimi"]
    if name == "replicated":
        mimi["seanet"]["pad_mode"] = "replicate"
    elif name == "codec_projections":
        mimi["transformer"] |= {"d_model": 24, "num_heads": 3}
    elif name == "grouped_upsampling":
        mimi["outer_dim"] = 32
        mimi["quantizer"]["output_dimension"] = 32
    elif name == "no_resampling":
        mimi["sample_rate"] //= 16
        mimi["inner_dim"] = mimi["seanet"]["dimension"]
    return out


def weight_set(arrays: dict[str, np.ndarray]) -> WeightSet:
    """Arrays as what the loader gives."""
    tensors = {name: TensorView.from_array(name, values, "memory") for name, values in arrays.items()}
    return WeightSet(tensors, ExitStack(), [], has_voice_cloning=True, has_custom_weights=False)


@dataclass(frozen=True)
class TinyModel:
    """The stages of one configuration, and the arrays they were packed from."""

    config: Config
    weights: dict[str, np.ndarray]
    flow_lm: FlowLM
    decoder: MimiDecoder
    encoder: MimiEncoder


def build(
    document: dict[str, Any],
    *,
    seed: int = 1,
    steps: int = 1,
    threads: int = 1,
    arrays: dict[str, np.ndarray] | None = None,
) -> TinyModel:
    """Pack the stages of a configuration; `arrays` replaces the random weights."""
    config = config_from_dict(document, "test")
    arrays = random_weights(config, seed) if arrays is None else arrays
    weights = weight_set(arrays)
    pool = _core.Pool(threads)
    return TinyModel(
        config,
        arrays,
        FlowLM(config, weights, pool, steps),
        MimiDecoder(config, weights, pool),
        MimiEncoder(config, weights, pool),
    )


@functools.cache
def named(name: str, steps: int = 1, threads: int = 1) -> TinyModel:
    """The configuration `name` with its own random weights, built once."""
    return build(document(name), steps=steps, threads=threads)


@dataclass(frozen=True)
class Inputs:
    """What an utterance is made from: prompt latents, token ids, and per frame the fed latent and noise."""

    prompt: np.ndarray
    ids: list[int]
    latents: np.ndarray
    noise: np.ndarray


def inputs(model: TinyModel, rng: np.random.Generator, *, prompt: int = 9, ids: int = 13, frames: int = 20) -> Inputs:
    """Random inputs in the range that the model sees; the first fed latent is the beginning (NaN)."""
    config = model.config
    latents = rng.standard_normal((frames, config.latent_dim)).astype(np.float32)
    latents[:1] = np.nan
    return Inputs(
        rng.standard_normal((prompt, config.mimi.conditioning_dim)).astype(np.float32),
        [int(i) for i in rng.integers(0, config.flow_lm.lookup_table.n_bins, ids)],
        latents,
        rng.standard_normal((frames, config.latent_dim)).astype(np.float32),
    )


def start(model: TinyModel, given: Inputs) -> "_core.BackboneState":
    """A stream that has heard the prompt and the text."""
    state = model.flow_lm.state_from_prompt(given.prompt)
    model.flow_lm.prefill_text(state, given.ids)
    return state


def speak(model: TinyModel, state: "_core.BackboneState", given: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """All frames with the given inputs (teacher forcing) -> latents [frames, latent], end logits [frames]."""
    out = [model.flow_lm.step([state], given.latents[i, None], given.noise[i, None]) for i in range(len(given.noise))]
    return np.concatenate([latent for latent, _ in out]), np.concatenate([end for _, end in out])
