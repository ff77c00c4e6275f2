"""Stages of tiny models in any precision, named as the values of `PRECISIONS` are."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import tiny_models
from pockettts_fast import _core
from pockettts_fast.config import Config, config_from_dict
from pockettts_fast.flow_lm import FlowLM
from pockettts_fast.mimi import MimiDecoder
from pockettts_fast.testing import random_weights


@dataclass(frozen=True)
class Stages:
    """The two stages of a generation."""

    config: Config
    flow_lm: FlowLM
    decoder: MimiDecoder


def pack(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    language_model: str,
    codec: str,
    *,
    threads: int = 1,
    steps: int = 1,
) -> Stages:
    """Stages with `arrays` for weights."""
    pool, weights = _core.Pool(threads), tiny_models.weight_set(dict(arrays))
    return Stages(
        config,
        FlowLM(config, weights, pool, steps, language_model),
        MimiDecoder(config, weights, pool, codec),
    )


@functools.cache
def named(name: str, language_model: str, codec: str, threads: int = 1) -> Stages:
    """The tiny model `name` with its random weights."""
    config = config_from_dict(tiny_models.document(name), "test")
    return pack(config, random_weights(config, 1), language_model, codec, threads=threads)
