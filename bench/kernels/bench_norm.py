"""Layer norms, affine (transformers) and modulated (flow head)."""

from collections.abc import Callable

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.norm import layer_norm
from reference.rounding import assert_within

# (width, rows, names of the vectors)
SHAPES = {
    "english-step": (1024, 1, ("weight", "bias")),
    "english-prefill": (1024, 125, ("weight", "bias")),
    "english-codec": (512, 16, ("weight", "bias")),
    "english-flow": (512, 1, ("weight", "bias", "shift", "scale")),
    "english_2m-step": (112, 1, ("weight", "bias")),
    "english_2m-prefill": (112, 125, ("weight", "bias")),
    "english_2m-codec": (128, 16, ("weight", "bias")),
}


@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_a_model(measure: Callable[..., None], isa: str, name: str, rng: np.random.Generator) -> None:
    n, rows, names = SHAPES[name]
    x = rng.standard_normal((rows, n), dtype=np.float32)
    parts = {part: rng.standard_normal(n, dtype=np.float32) for part in names}
    assert_within(kernels.layer_norm(isa, x, 1e-5, **parts), *layer_norm(x, 1e-5, **parts))
    measure(
        lambda: kernels.layer_norm(isa, x, 1e-5, **parts),
        flop=(6.0 + len(names)) * x.size,
        bytes=8.0 * x.size,
    )
