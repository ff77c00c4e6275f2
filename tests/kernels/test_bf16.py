"""bfloat16 products: rounding of operands, one order of float32 sums on every instruction set, the error."""

import numpy as np
import pytest

from kernels.lower_precisions import DEPTHS, EDGE_COLS, ROWS, SHAPES, fused_isas, normal, packed
from pockettts_fast._core import kernels
from reference.quantized import Linear, bf16_error, to_bf16
from reference.rounding import assert_same_bits, assert_within


@pytest.mark.parametrize("cols", EDGE_COLS)
def test_every_number_of_rows_gives_the_bits_of_the_reference(isa: str, cols: int, rng: np.random.Generator) -> None:
    layer = Linear("bf16", normal(rng, cols, 37), normal(rng, cols), normal(rng, cols))
    x, residual = normal(rng, 26, 37), normal(rng, 26, cols)
    expected, linear = layer(x, residual), packed(isa, layer)
    for rows in ROWS:
        assert_same_bits(linear.apply(x[:rows], "none", residual[:rows]), expected[:rows], f"{rows} rows:")


def test_every_depth_gives_the_bits_of_the_reference(isa: str, rng: np.random.Generator) -> None:
    for depth in DEPTHS:
        layer = Linear("bf16", normal(rng, 81, depth))
        x = normal(rng, 13, depth)
        expected, linear = layer(x), packed(isa, layer)
        for rows in (1, 2, 13):
            assert_same_bits(linear.apply(x[:rows]), expected[:rows], f"depth {depth}, {rows} rows:")


@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
def test_the_released_shapes_give_the_bits_of_the_reference(
    isa: str, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    layer = Linear("bf16", normal(rng, *shape), normal(rng, shape[0]))
    linear = packed(isa, layer, threads=2)
    for rows in (1, 16):
        x = normal(rng, rows, shape[1])
        assert_same_bits(linear.apply(x), layer(x), f"{rows} rows:")


def corner_values() -> np.ndarray:
    """float32 around every decision of the rounding, as bit patterns."""
    bits = [
        0x3F808000,  # 1 and a half step: tie, to even (down)
        0x3F818000,  # tie, to even (up)
        0x3F808001,  # just above a tie
        0x3F807FFF,  # just below
        0x3FFFFFFF,  # carries into the exponent
        0x7F7FFFFF,  # the largest float32 rounds to infinity
        0x7F7F7FFF,  # and this not
        0x00800000,  # the smallest normal number stays
        0x007FFFFF,  # the largest subnormal number becomes zero
        0x00000001,
        0x00000000,
        0x7F800000,  # infinity
    ]
    values = np.array(bits, np.uint32).view(np.float32)
    return np.concatenate([values, -values])


@pytest.mark.parametrize("side", ["rows", "weights"])
def test_operands_round_to_the_nearest_even_bfloat16(isa: str, side: str, rng: np.random.Generator) -> None:
    values = np.concatenate([corner_values(), normal(rng, 100) * 10.0 ** rng.integers(-30, 30, 100)])
    values, one = values.astype(np.float32)[:, None], np.ones((1, 1), np.float32)
    if side == "rows":
        y = packed(isa, Linear("bf16", one)).apply(values)[:, 0]
    else:
        y = packed(isa, Linear("bf16", values)).apply(one)[0]
    expected = to_bf16(values[:, 0])
    # Summing from +0 turns -0 into +0: equal as numbers, and NaN from infinity times the zero of an odd
    # depth's padding must not appear.
    np.testing.assert_array_equal(y, expected)
    assert (expected != values[:, 0]).sum() > 100


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001], ids=hex)
def test_every_nan_stays_a_nan(isa: str, bits: int, rng: np.random.Generator) -> None:
    # Rounding the bits of 0x7fffffff up would give -0, those of 0x7f800001 cut an infinity.
    nan = np.array([bits], np.uint32).view(np.float32)[0]
    for depth in (19, 20):  # an odd depth pads with zeros, next to another row's values
        weight, x = normal(rng, 70, depth), normal(rng, 26, depth)
        clean = packed(isa, Linear("bf16", weight)).apply(x)
        x[11, 0] = nan
        y = packed(isa, Linear("bf16", weight)).apply(x)
        assert np.isnan(y[11]).all()
        assert_same_bits(np.delete(y, 11, axis=0), np.delete(clean, 11, axis=0))
        x[11, 0] = 0
        weight[64, depth - 1] = nan
        assert np.isnan(packed(isa, Linear("bf16", weight)).apply(x)).any(axis=0).tolist() == [
            column == 64 for column in range(70)
        ]


@pytest.mark.parametrize("activation", ["elu", "silu", "gelu_tanh"])
def test_sets_with_fused_multiply_add_agree_after_an_activation(activation: str, rng: np.random.Generator) -> None:
    names = fused_isas()
    if len(names) < 2:
        pytest.skip(f"needs two vector instruction sets to compare, this processor runs {len(names)}")
    for cols, depth in [(33, 18), (33, 19), (384, 128), (512, 512)]:
        layer = Linear("bf16", normal(rng, cols, depth), normal(rng, cols), normal(rng, cols))
        x, residual = normal(rng, 14, depth), normal(rng, 14, cols)
        first, *others = (packed(name, layer).apply(x, activation, residual) for name in names)
        for other in others:
            assert_same_bits(other, first)


@pytest.mark.parametrize("exponent", [-55, -20, 0, 20, 50])
def test_any_size_of_normal_sums_gives_the_bits_of_the_reference(
    isa: str, exponent: int, rng: np.random.Generator
) -> None:
    # Down to sums of 2^-110; below 2^-126 VDPBF16PS flushes and the others do not.
    size = np.float32(2.0**exponent)
    layer = Linear("bf16", normal(rng, 33, 64) * size)
    x = normal(rng, 5, 64) * size
    assert_same_bits(packed(isa, layer).apply(x), layer(x))


def test_tiny_sums_are_off_by_no_more_than_the_smallest_normal_number(isa: str, rng: np.random.Generator) -> None:
    weight, x = normal(rng, 33, 64) * np.float32(2.0**-64), normal(rng, 5, 64) * np.float32(2.0**-64)
    y = packed(isa, Linear("bf16", weight)).apply(x)
    assert_within(y, x.astype(np.float64) @ weight.astype(np.float64).T, bf16_error(x, weight))


def test_the_error_against_the_unrounded_product_stays_in_its_bound(isa: str, rng: np.random.Generator) -> None:
    for cols, depth in [(65, 5), (96, 112), (33, 1024)]:
        weight, x = normal(rng, cols, depth), normal(rng, 9, depth)
        weight[1, 0] = x[2, 1] = 100
        exact = x.astype(np.float64) @ weight.astype(np.float64).T
        y = packed(isa, Linear("bf16", weight)).apply(x)
        assert_within(y, exact, bf16_error(x, weight))
        assert np.abs(y - exact).max() > 1e-5 * np.abs(exact).max()  # it is rounded at all


def test_one_row_gives_the_bits_of_many(isa: str, rng: np.random.Generator) -> None:
    for cols in (1, 17, 48, 64, 65, 130, 320):
        layer = Linear("bf16", normal(rng, cols, 113), normal(rng, cols), normal(rng, cols))
        linear, x = packed(isa, layer), normal(rng, 40, 113)
        whole = linear.apply(x, "gelu_tanh")
        single = [linear.apply(x[i : i + 1], "gelu_tanh") for i in range(40)]
        assert_same_bits(np.concatenate(single), whole, f"{cols} columns:")


@pytest.mark.parametrize("rows", [1, 3, 16, 300])
def test_the_number_of_threads_changes_no_bit(isa: str, rows: int, rng: np.random.Generator) -> None:
    for cols, depth in [(1536, 256), (320, 113), (33, 4096)]:
        layer = Linear("bf16", normal(rng, cols, depth), normal(rng, cols))
        x = normal(rng, rows, depth)
        alone = packed(isa, layer).apply(x, "silu")
        for threads in (2, 5):
            assert_same_bits(packed(isa, layer, threads).apply(x, "silu"), alone)


def conv(isa: str, weight: np.ndarray, stride: int = 1, threads: int = 1) -> kernels.Conv1d:
    return kernels.Conv1d(isa, threads, weight, stride=stride, before="elu", precision="bf16")


@pytest.mark.parametrize(("channels", "kernel"), [(24, 3), (5, 3), (7, 1), (512, 7)])
def test_any_chunking_of_a_convolution_gives_the_same_bits(
    isa: str, channels: int, kernel: int, rng: np.random.Generator
) -> None:
    # Overlapping rows are converted once; an odd depth (5 * 3) takes another road.
    weight, x = normal(rng, 33, channels, kernel), normal(rng, 40, channels)
    whole = conv(isa, weight).step(x)
    stream, at, parts = conv(isa, weight, threads=2), 0, []
    while at < len(x):
        rows = int(rng.integers(1, 9))
        parts.append(stream.step(x[at : at + rows]))
        at += rows
    assert_same_bits(np.concatenate(parts), whole)


def test_any_chunking_of_a_transposed_convolution_gives_the_same_bits(isa: str, rng: np.random.Generator) -> None:
    weight, x = normal(rng, 48, 24, 12), normal(rng, 40, 48)

    def stream(threads: int) -> kernels.ConvTranspose1d:
        return kernels.ConvTranspose1d(isa, threads, weight, stride=6, before="elu", precision="bf16")

    whole, pieces = stream(1).step(x), stream(2)
    assert_same_bits(np.concatenate([pieces.step(part) for part in np.split(x, [1, 2, 9, 10, 33])]), whole)


def test_the_packed_form_has_two_bytes_a_weight() -> None:
    for cols, depth, padded in [(32, 64, 32 * 64), (33, 9, 48 * 10)]:
        linear = kernels.PackedLinear("scalar", 1, np.ones((cols, depth), np.float32), precision="bf16")
        assert linear.packed_bytes == 2 * padded
