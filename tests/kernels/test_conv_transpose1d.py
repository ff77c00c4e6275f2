"""Streaming transposed conv1d and the depthwise upsampling; any chunking equals the whole, exactly."""

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.chunks import cut, random_split
from reference.conv_transpose1d import conv_transpose1d, depthwise_upsample
from reference.rounding import assert_same_bits, assert_within

# (in, out, stride) of the released codecs; the kernel is twice the stride.
RELEASED = {
    "english_up6": (512, 256, 6),
    "english_up5": (256, 128, 5),
    "english_up4": (128, 64, 4),
    "english_2m_up6": (192, 96, 6),
    "english_2m_up5": (96, 48, 5),
    "english_2m_up4": (48, 24, 4),
}
# (kernel, stride): equal, twice, and no multiple of the stride.
GEOMETRIES = [
    (1, 1),
    (3, 3),
    (4, 4),
    (2, 1),
    (8, 4),
    (12, 6),
    (3, 1),
    (3, 2),
    (5, 2),
    (7, 3),
    (9, 3),
    (11, 4),
]


def convolve(isa: str, threads: int, chunks: list[np.ndarray], *options: object, **named: object) -> np.ndarray:
    """The chunks streamed through a fresh transposed convolution, joined."""
    conv = kernels.ConvTranspose1d(isa, threads, *options, **named)
    return np.concatenate([conv.step(chunk) for chunk in chunks])


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize("before", ["none", "elu"])
def test_the_released_shapes_are_right(isa: str, name: str, before: str, rng: np.random.Generator) -> None:
    channels, outputs, stride = RELEASED[name]
    x, weight = normal(rng, 5, channels), normal(rng, channels, outputs, 2 * stride)
    bias = normal(rng, outputs)
    y = convolve(isa, 2, [x], weight, bias, stride, before)
    assert_within(y, *conv_transpose1d(x, weight, bias, stride, before))


@pytest.mark.parametrize("outputs", [1, 3, 16, 17, 40])
@pytest.mark.parametrize(("kernel", "stride"), GEOMETRIES)
def test_every_geometry_is_right(isa: str, kernel: int, stride: int, outputs: int, rng: np.random.Generator) -> None:
    x, weight, bias = normal(rng, 9, 7), normal(rng, 7, outputs, kernel), normal(rng, outputs)
    for given in (bias, None):
        y = convolve(isa, 1, [x], weight, given, stride, "elu")
        assert_within(y, *conv_transpose1d(x, weight, given, stride, "elu"))


@pytest.mark.parametrize(("kernel", "stride"), GEOMETRIES)
def test_any_chunking_gives_the_bits_of_the_whole(isa: str, kernel: int, stride: int, rng: np.random.Generator) -> None:
    x, weight, bias = normal(rng, 50, 6), normal(rng, 6, 18, kernel), normal(rng, 18)
    for before in ("none", "elu"):
        whole = convolve(isa, 1, [x], weight, bias, stride, before)
        for sizes in [*(random_split(rng, 50) for _ in range(4)), [1] * 50]:
            parts = convolve(isa, 1, cut(x, sizes), weight, bias, stride, before)
            assert_same_bits(parts, whole, f"{sizes}:")


@pytest.mark.parametrize(("kernel", "stride"), GEOMETRIES)
def test_the_bias_is_added_once(isa: str, kernel: int, stride: int, rng: np.random.Generator) -> None:
    bias, weight = normal(rng, 18), normal(rng, 2, 18, kernel)
    chunks = [np.zeros((rows, 2), np.float32) for rows in (1, 3, 1)]
    y = convolve(isa, 1, chunks, weight, bias, stride)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (5 * stride, 18)))


def test_a_single_impulse_writes_the_kernel_out(isa: str) -> None:
    weight = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7)
    x = np.zeros((5, 1), np.float32)
    x[1] = 1.0
    y = convolve(isa, 1, cut(x, [1] * 5), weight, stride=3)
    np.testing.assert_array_equal(y[:, 0], [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(("kernel", "stride"), [(12, 6), (11, 4)])
def test_the_number_of_threads_changes_no_bit(isa: str, kernel: int, stride: int, rng: np.random.Generator) -> None:
    x, weight, bias = normal(rng, 200, 64), normal(rng, 64, 32, kernel), normal(rng, 32)
    alone = convolve(isa, 1, [x], weight, bias, stride, "elu")
    for threads in (2, 5):
        assert_same_bits(convolve(isa, threads, [x], weight, bias, stride, "elu"), alone)


def test_vector_sets_give_the_same_bits(vector_isas: tuple[str, ...], rng: np.random.Generator) -> None:
    for kernel, stride in GEOMETRIES:
        x, weight, bias = normal(rng, 14, 20), normal(rng, 20, 13, kernel), normal(rng, 13)
        first, *others = (convolve(isa, 1, [x], weight, bias, stride, "elu") for isa in vector_isas)
        for other in others:
            assert_same_bits(other, first, f"kernel {kernel}, stride {stride}:")


def test_a_nan_reaches_the_rows_its_kernel_covers_and_no_others(isa: str, rng: np.random.Generator) -> None:
    x, weight = normal(rng, 8, 3), normal(rng, 3, 4, 7)
    x[4, 1] = np.nan
    y = convolve(isa, 1, cut(x, [3, 1, 4]), weight, stride=3)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y).any(axis=1)), range(12, 19))


def test_a_kernel_smaller_than_its_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel 2 is smaller than its stride 3"):
        convolve("scalar", 1, [np.zeros((6, 2), np.float32)], np.zeros((2, 3, 2), np.float32), stride=3)


def test_chunks_that_do_not_fit_are_refused() -> None:
    weight = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match="chunk is 3 wide, expected 2"):
        convolve("scalar", 1, [np.zeros((4, 3), np.float32)], weight, stride=2)
    with pytest.raises(ValueError, match="bias has 2 elements, expected 3"):
        convolve("scalar", 1, [np.zeros((4, 2), np.float32)], weight, np.zeros(2, np.float32), stride=2)
    with pytest.raises(ValueError, match="chunk is 3 wide, expected 2"):
        kernels.depthwise_upsample("scalar", [np.zeros((4, 3), np.float32)], np.zeros((2, 1, 4), np.float32))


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 128, 512])
@pytest.mark.parametrize("stride", [1, 2, 16])
def test_depthwise_upsampling_is_right(isa: str, channels: int, stride: int, rng: np.random.Generator) -> None:
    x, weight = normal(rng, 6, channels), normal(rng, channels, 1, 2 * stride)
    assert_within(kernels.depthwise_upsample(isa, [x], weight), *depthwise_upsample(x, weight))


def test_any_chunking_of_depthwise_upsampling_gives_the_bits_of_the_whole(isa: str, rng: np.random.Generator) -> None:
    x, weight = normal(rng, 40, 33), normal(rng, 33, 1, 32)
    whole = kernels.depthwise_upsample(isa, [x], weight)
    for sizes in [*(random_split(rng, 40) for _ in range(5)), [1] * 40]:
        assert_same_bits(kernels.depthwise_upsample(isa, cut(x, sizes), weight), whole, f"{sizes}:")


def test_depthwise_upsampling_is_a_transposed_convolution_with_a_diagonal_kernel(
    isa: str, rng: np.random.Generator
) -> None:
    x, weight = normal(rng, 9, 20), normal(rng, 20, 1, 8)
    dense = np.zeros((20, 20, 8), np.float32)
    dense[range(20), range(20)] = weight[:, 0]
    expected = convolve(isa, 1, [x], dense, stride=4)
    _, error = depthwise_upsample(x, weight)
    assert_within(kernels.depthwise_upsample(isa, [x], weight), expected.astype(np.float64), 2 * error)


def test_vector_sets_give_the_same_bits_in_depthwise_upsampling(
    vector_isas: tuple[str, ...], rng: np.random.Generator
) -> None:
    for channels in (1, 16, 31, 128, 512):
        x, weight = normal(rng, 7, channels), normal(rng, channels, 1, 32)
        first, *others = (kernels.depthwise_upsample(isa, [x], weight) for isa in vector_isas)
        for other in others:
            assert_same_bits(other, first)
