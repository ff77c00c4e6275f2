"""The convolutions of one decoded frame (80 ms), and the large ones of the encoder."""

from collections.abc import Callable

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.conv1d import conv1d
from reference.rounding import assert_within

# (in, out, kernel, stride, rows of one frame)
SHAPES = {
    "english-decoder-first": (512, 512, 7, 1, 16),
    "english-residual256-k3": (256, 128, 3, 1, 96),
    "english-residual256-k1": (128, 256, 1, 1, 96),
    "english-residual128-k3": (128, 64, 3, 1, 480),
    "english-residual64-k3": (64, 32, 3, 1, 1920),
    "english-decoder-last": (64, 1, 3, 1, 1920),
    "english-encoder-first": (1, 64, 7, 1, 1920),
    "english-encoder-down4": (64, 128, 8, 4, 1920),
    "english-encoder-down6": (256, 512, 12, 6, 96),
    "english_2m-decoder-first": (128, 192, 3, 1, 16),
    "english_2m-residual96-k3": (96, 48, 3, 1, 96),
    "english_2m-residual24-k3": (24, 12, 3, 1, 1920),
    "english_2m-decoder-last": (24, 1, 3, 1, 1920),
}


@pytest.mark.parametrize("name", SHAPES)
def test_one_frame(measure: Callable[..., None], isa: str, threads: int, name: str, rng: np.random.Generator) -> None:
    channels, outputs, kernel, stride, rows = SHAPES[name]
    weight = rng.standard_normal((outputs, channels, kernel), dtype=np.float32)
    bias = rng.standard_normal(outputs, dtype=np.float32)
    x = rng.standard_normal((rows, channels), dtype=np.float32)
    conv = kernels.Conv1d(isa, threads, weight, bias, stride, before="elu")
    few = 4 * stride
    expected, error = conv1d(x[:few], weight, bias, stride, before="elu")
    assert_within(conv.step(x)[: len(expected)], expected, error)
    measure(
        lambda: conv.step(x),
        flop=2.0 * rows / stride * weight.size,
        bytes=4.0 * (weight.size + x.size + rows / stride * outputs),
    )
