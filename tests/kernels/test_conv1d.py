"""Streaming conv1d against float64 loops; any chunking equals the whole, exactly."""

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.chunks import cut, random_split
from reference.conv1d import conv1d
from reference.rounding import assert_same_bits, assert_within

# (in, out, kernel, stride) of the released codecs.
RELEASED = {
    "english_decoder_first": (512, 512, 7, 1),
    "english_residual": (256, 128, 3, 1),
    "english_residual_1x1": (32, 64, 1, 1),
    "english_decoder_last": (64, 1, 3, 1),
    "english_encoder_first": (1, 64, 7, 1),
    "english_encoder_down": (64, 128, 8, 4),
    "english_encoder_down_last": (256, 512, 12, 6),
    "english_downsample": (512, 32, 32, 16),
    "english_2m_decoder_first": (128, 192, 3, 1),
    "english_2m_residual": (24, 12, 3, 1),
    "english_2m_residual_1x1": (12, 24, 1, 1),
    "english_2m_decoder_last": (24, 1, 3, 1),
}
# (kernel, stride, dilation) in every combination that a stream allows.
GEOMETRIES = [
    (kernel, stride, dilation)
    for kernel in (1, 2, 3, 7)
    for stride in (1, 2, 3, 4)
    for dilation in (1, 2, 3)
    if kernel >= stride
]


def convolve(isa: str, threads: int, chunks: list[np.ndarray], *options: object, **named: object) -> np.ndarray:
    """The chunks streamed through a fresh convolution, joined."""
    conv = kernels.Conv1d(isa, threads, *options, **named)
    return np.concatenate([conv.step(chunk) for chunk in chunks])


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize("before", ["none", "elu"])
def test_the_released_shapes_are_right(isa: str, name: str, before: str, rng: np.random.Generator) -> None:
    channels, outputs, kernel, stride = RELEASED[name]
    x, weight = normal(rng, 4 * stride, channels), normal(rng, outputs, channels, kernel)
    bias = normal(rng, outputs)
    y = convolve(isa, 2, [x], weight, bias, stride, 1, False, before)
    assert_within(y, *conv1d(x, weight, bias, stride, 1, False, before))


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
def test_every_geometry_is_right(
    isa: str, kernel: int, stride: int, dilation: int, replicate: bool, rng: np.random.Generator
) -> None:
    x, weight, bias = normal(rng, 5 * stride, 3), normal(rng, 17, 3, kernel), normal(rng, 17)
    y = convolve(isa, 1, [x], weight, bias, stride, dilation, replicate, "elu")
    assert_within(y, *conv1d(x, weight, bias, stride, dilation, replicate, "elu"))


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
def test_any_chunking_gives_the_bits_of_the_whole(
    isa: str, kernel: int, stride: int, dilation: int, replicate: bool, rng: np.random.Generator
) -> None:
    x, weight, bias = normal(rng, 40 * stride, 5), normal(rng, 20, 5, kernel), normal(rng, 20)
    for before in ("none", "elu"):
        options = (weight, bias, stride, dilation, replicate, before)
        whole = convolve(isa, 1, [x], *options)
        splits = [random_split(rng, len(x), stride) for _ in range(3)] + [[stride] * 40]
        for sizes in splits:
            assert_same_bits(convolve(isa, 1, cut(x, sizes), *options), whole, f"{sizes}:")


@pytest.mark.parametrize("name", ["english_decoder_first", "english_downsample", "english_2m_residual"])
def test_a_released_layer_streamed_frame_by_frame_gives_the_bits_of_the_whole(
    isa: str, name: str, rng: np.random.Generator
) -> None:
    channels, outputs, kernel, stride = RELEASED[name]
    x, weight = normal(rng, 12 * stride, channels), normal(rng, outputs, channels, kernel)
    options = (weight, None, stride, 1, name == "english_downsample", "elu")
    whole = convolve(isa, 1, [x], *options)
    for sizes in ([stride] * 12, [stride, 11 * stride], [0, 5 * stride, 0, 7 * stride]):
        assert_same_bits(convolve(isa, 2, cut(x, sizes), *options), whole, f"{sizes}:")


@pytest.mark.parametrize("dilation", [1, 2])
def test_the_number_of_threads_changes_no_bit(isa: str, dilation: int, rng: np.random.Generator) -> None:
    x, weight, bias = normal(rng, 500, 64), normal(rng, 48, 64, 3), normal(rng, 48)
    alone = convolve(isa, 1, [x], weight, bias, 1, dilation, False, "elu")
    for threads in (2, 5):
        assert_same_bits(convolve(isa, threads, [x], weight, bias, 1, dilation, False, "elu"), alone)


def test_vector_sets_give_the_same_bits(vector_isas: tuple[str, ...], rng: np.random.Generator) -> None:
    for kernel, stride, dilation in GEOMETRIES:
        x, weight, bias = normal(rng, 12 * stride, 6), normal(rng, 33, 6, kernel), normal(rng, 33)
        first, *others = (convolve(isa, 1, [x], weight, bias, stride, dilation, True, "elu") for isa in vector_isas)
        for other in others:
            assert_same_bits(other, first, f"kernel {kernel}, stride {stride}, dilation {dilation}:")


def test_zero_padding_stands_for_silence_and_replicate_for_the_first_row(isa: str) -> None:
    x, weight = np.full((6, 1), 2.0, np.float32), np.ones((1, 1, 4), np.float32)
    zero = convolve(isa, 1, [x], weight)
    held = convolve(isa, 1, [x], weight, replicate=True)
    np.testing.assert_array_equal(zero[:, 0], [2, 4, 6, 8, 8, 8])
    np.testing.assert_array_equal(held[:, 0], [8, 8, 8, 8, 8, 8])


def test_the_first_row_replicates_even_after_empty_chunks(isa: str, rng: np.random.Generator) -> None:
    x, weight = normal(rng, 8, 4), normal(rng, 5, 4, 6)
    whole = convolve(isa, 1, [x], weight, stride=2, replicate=True)
    later = convolve(isa, 1, cut(x, [0, 0, 2, 6]), weight, stride=2, replicate=True)
    assert_same_bits(later, whole)


def test_a_chunk_shorter_than_the_history_shifts_it(isa: str, rng: np.random.Generator) -> None:
    x, weight = normal(rng, 30, 2), normal(rng, 3, 2, 7)
    whole = convolve(isa, 1, [x], weight, dilation=4)  # 24 rows of history
    assert_same_bits(convolve(isa, 1, cut(x, [1] * 30), weight, dilation=4), whole)


def test_one_by_one_without_history_is_a_linear_layer(isa: str, rng: np.random.Generator) -> None:
    x, weight, bias = normal(rng, 21, 37), normal(rng, 50, 37, 1), normal(rng, 50)
    linear = kernels.PackedLinear(isa, 1, np.ascontiguousarray(weight[:, :, 0]), bias)
    assert_same_bits(convolve(isa, 1, [x], weight, bias), linear.apply(x))


def test_a_nan_reaches_the_rows_whose_window_holds_it_and_no_others(isa: str, rng: np.random.Generator) -> None:
    x, weight = normal(rng, 20, 3), normal(rng, 4, 3, 3)
    x[9, 1] = np.nan
    y = convolve(isa, 1, [x], weight, dilation=2, before="elu")
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y).all(axis=1)), [9, 11, 13])
    assert np.isnan(y).any(axis=1).sum() == 3


def test_a_kernel_smaller_than_its_stride_is_refused() -> None:
    x, weight = np.zeros((6, 2), np.float32), np.zeros((3, 2, 2), np.float32)
    with pytest.raises(ValueError, match="kernel 2 is smaller than its stride 3"):
        convolve("scalar", 1, [x], weight, stride=3)


def test_chunks_that_do_not_fit_are_refused() -> None:
    weight = np.zeros((3, 2, 4), np.float32)
    with pytest.raises(ValueError, match="5 rows, which is not a multiple of the stride 2"):
        convolve("scalar", 1, [np.zeros((5, 2), np.float32)], weight, stride=2)
    with pytest.raises(ValueError, match="chunk is 3 wide, expected 2"):
        convolve("scalar", 1, [np.zeros((4, 3), np.float32)], weight, stride=2)
    with pytest.raises(ValueError, match="bias has 4 elements, expected 3"):
        convolve("scalar", 1, [np.zeros((4, 2), np.float32)], weight, np.zeros(4, np.float32))
