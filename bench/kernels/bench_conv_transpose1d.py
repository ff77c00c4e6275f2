"""The upsampling convolutions of one decoded frame (80 ms)."""

from collections.abc import Callable

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.conv_transpose1d import conv_transpose1d, depthwise_upsample
from reference.rounding import assert_within

# (in, out, stride, rows of one frame)
SHAPES = {
    "english-up6": (512, 256, 6, 16),
    "english-up5": (256, 128, 5, 96),
    "english-up4": (128, 64, 4, 480),
    "english_2m-up6": (192, 96, 6, 16),
    "english_2m-up5": (96, 48, 5, 96),
    "english_2m-up4": (48, 24, 4, 480),
}


@pytest.mark.parametrize("name", SHAPES)
def test_one_frame(measure: Callable[..., None], isa: str, threads: int, name: str, rng: np.random.Generator) -> None:
    channels, outputs, stride, rows = SHAPES[name]
    weight = rng.standard_normal((channels, outputs, 2 * stride), dtype=np.float32)
    bias = rng.standard_normal(outputs, dtype=np.float32)
    x = rng.standard_normal((rows, channels), dtype=np.float32)
    conv = kernels.ConvTranspose1d(isa, threads, weight, bias, stride, "elu")
    expected, error = conv_transpose1d(x[:4], weight, bias, stride, "elu")
    assert_within(conv.step(x)[: len(expected)], expected, error)
    measure(
        lambda: conv.step(x),
        flop=2.0 * rows * weight.size,
        bytes=4.0 * (weight.size + x.size + rows * stride * outputs),
    )


@pytest.mark.parametrize("channels", [512, 128], ids=["english", "english_2m"])
def test_depthwise_upsampling_of_one_frame(
    measure: Callable[..., None], isa: str, channels: int, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((1, channels), dtype=np.float32)
    weight = rng.standard_normal((channels, 1, 32), dtype=np.float32)
    assert_within(kernels.depthwise_upsample(isa, [x], weight), *depthwise_upsample(x, weight))
    frames = [x] * 100  # one call lays the weights out, which a model does at load: 100 frames hide it
    measure(
        lambda: kernels.depthwise_upsample(isa, frames, weight),
        flop=3.0 * 100 * 16 * channels,
        bytes=4.0 * 100 * 16 * channels * 5,
    )
