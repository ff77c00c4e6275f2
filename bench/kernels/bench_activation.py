"""Activations over what one frame holds, and over more than a cache does."""

from collections.abc import Callable

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.activation import activate, own_error
from reference.rounding import assert_within

SIZES = {
    "english-seanet": 1920 * 64,
    "english-linear1": 16 * 2048,
    "english_2m-seanet": 1920 * 24,
    "memory": 2**24,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["none", "elu", "silu", "gelu_tanh", "exp"])
def test_a_map(measure: Callable[..., None], isa: str, name: str, size: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal(SIZES[size], dtype=np.float32) * np.float32(3)
    assert_within(kernels.activate(isa, name, x[:10_000]), activate(name, x[:10_000]), own_error(name, x[:10_000]))
    measure(lambda: kernels.activate(isa, name, x), bytes=8.0 * x.size)
