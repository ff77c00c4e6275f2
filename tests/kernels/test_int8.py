"""int8 products: exact integers on every instruction set, extremes included, and the error they promise."""

import numpy as np
import pytest

from kernels.lower_precisions import DEPTHS, EDGE_COLS, ROWS, SHAPES, fused_isas, normal, packed
from pockettts_fast._core import kernels
from reference.activation import activate, activation_error
from reference.quantized import Linear, int8_error, quantize
from reference.rounding import assert_same_bits, assert_within, rounded

ACTIVATIONS = ("elu", "silu", "gelu_tanh")


@pytest.mark.parametrize("cols", EDGE_COLS)
def test_every_number_of_rows_gives_the_bits_of_the_reference(isa: str, cols: int, rng: np.random.Generator) -> None:
    layer = Linear("int8", normal(rng, cols, 37), normal(rng, cols), normal(rng, cols))
    x, residual = normal(rng, 26, 37), normal(rng, 26, cols)
    expected, linear = layer(x, residual), packed(isa, layer)
    for rows in ROWS:
        assert_same_bits(linear.apply(x[:rows], "none", residual[:rows]), expected[:rows], f"{rows} rows:")


def test_every_depth_gives_the_bits_of_the_reference(isa: str, rng: np.random.Generator) -> None:
    for depth in DEPTHS:
        layer = Linear("int8", normal(rng, 81, depth))
        x = normal(rng, 13, depth)
        expected, linear = layer(x), packed(isa, layer)
        for rows in (1, 2, 13):
            assert_same_bits(linear.apply(x[:rows]), expected[:rows], f"depth {depth}, {rows} rows:")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_released_shapes_give_the_bits_of_the_reference(
    isa: str, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    layer = Linear("int8", normal(rng, *shape), normal(rng, shape[0]))
    linear = packed(isa, layer, threads=2)
    for rows in (1, 2, 17):
        x = normal(rng, rows, shape[1])
        assert_same_bits(linear.apply(x), layer(x), f"{rows} rows:")


def extremes(depth: int) -> dict[str, np.ndarray]:
    """Rows whose quantised values are all at an end of the range, in orders that break narrower sums."""
    ones = np.ones(depth, np.float32)
    signs = np.where(np.arange(depth) % 2, -ones, ones)
    pairs = np.where(np.arange(depth) // 2 % 2, -ones, ones)
    return {"highest": ones, "lowest": -ones, "signs": signs, "opposite": -signs, "pairs": pairs}


@pytest.mark.parametrize("depth", [2, 4, 64, 1023, 4096])
def test_the_largest_operands_do_not_saturate(isa: str, depth: int) -> None:
    # With 128 added, the row of +127 is 255: 255 * 127 * 2 does not fit the 16 bits of VPMADDUBSW. The sums
    # reach 127 * 127 * depth.
    rows = np.stack(list(extremes(depth).values()))
    weight = np.concatenate([rows] * 8)[:33]
    integers = (rows.astype(np.float64) * 127) @ (weight.astype(np.float64) * 127).T
    linear = packed(isa, Linear("int8", weight))
    expected = integers.astype(np.float32) * (np.float32(1) / np.float32(127)) ** 2
    assert np.abs(integers).max() == 127 * 127 * depth
    assert_same_bits(linear.apply(rows), expected)
    for row, answer in zip(rows, expected, strict=True):
        assert_same_bits(linear.apply(row[None]), answer[None])


def test_whole_numbers_up_to_127_are_multiplied_exactly(isa: str, rng: np.random.Generator) -> None:
    # A peak of 127 makes the scale 1, so that the float32 results are the integers themselves.
    weight, x = (rng.integers(-127, 128, shape).astype(np.float32) for shape in [(50, 203), (9, 203)])
    weight[:, 7], x[:, 3] = 127, -127
    y = packed(isa, Linear("int8", weight)).apply(x)
    np.testing.assert_array_equal(y, x.astype(np.int64) @ weight.astype(np.int64).T)


def test_no_quantised_value_is_minus_128(isa: str) -> None:
    # -128 would come from scaling by 128, or from a rounding beyond the peak.
    x = np.array([[-1.0, 1.0, -0.9999999, 0.5]], np.float32) * np.float32(3.1)
    weight = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    y = packed(isa, Linear("int8", weight)).apply(x)
    numbers = y / (np.float32(3.1) / np.float32(127))
    np.testing.assert_allclose(numbers, [[-127, 127, -127, 64]], rtol=1e-5)


def test_halfway_values_round_to_even_on_every_set(isa: str) -> None:
    x = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 127]], np.float32)
    y = packed(isa, Linear("int8", np.eye(8, dtype=np.float32))).apply(x)
    expected = Linear("int8", np.eye(8, dtype=np.float32))(x)
    assert_same_bits(y, expected)
    np.testing.assert_array_equal(np.rint(y), [[0, 2, 2, 0, -2, -2, 126, 127]])


def test_zero_rows_and_zero_columns_give_zero_plus_the_epilogue(isa: str, rng: np.random.Generator) -> None:
    weight, bias = normal(rng, 40, 18), normal(rng, 40)
    weight[11] = 0
    x = normal(rng, 5, 18)
    x[2] = 0
    y = packed(isa, Linear("int8", weight, bias)).apply(x)
    assert_same_bits(y[2], bias)
    assert_same_bits(y[:, 11], np.broadcast_to(bias[11], 5).copy())


@pytest.mark.parametrize("peak", [1e-45, 1e-38, 9e-31, 1.1e-30, 1e-15, 1e15, 3e38])
def test_any_finite_size_of_rows_is_handled(isa: str, peak: float, rng: np.random.Generator) -> None:
    # 127 / peak overflows below 4e-37; such rows count as zero.
    layer = Linear("int8", rng.uniform(-0.01, 0.01, (33, 21)).astype(np.float32))
    x = (rng.uniform(-1, 1, (3, 21)) * peak).astype(np.float32)
    x[1, 4] = 0
    y = packed(isa, layer).apply(x)
    assert np.isfinite(y).all()
    assert_same_bits(y, layer(x))
    assert (y == 0).all() == (np.abs(x).max() < 1e-30)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_what_int8_cannot_hold_makes_its_row_nan_and_no_other(isa: str, bad: float, rng: np.random.Generator) -> None:
    weight, x = normal(rng, 70, 53), normal(rng, 26, 53)
    clean = packed(isa, Linear("int8", weight)).apply(x)
    for place in (0, 15, 16, 31, 52):
        spoilt = x.copy()
        spoilt[11, place] = bad
        for activation in ("none", *ACTIVATIONS):
            y = packed(isa, Linear("int8", weight)).apply(spoilt, activation)
            assert np.isnan(y[11]).all()
            assert np.isfinite(np.delete(y, 11, axis=0)).all()
        y = packed(isa, Linear("int8", weight)).apply(spoilt)
        assert_same_bits(np.delete(y, 11, axis=0), np.delete(clean, 11, axis=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_a_weight_that_int8_cannot_hold_makes_its_column_nan(isa: str, bad: float, rng: np.random.Generator) -> None:
    weight, x = normal(rng, 70, 20), normal(rng, 5, 20)
    clean = packed(isa, Linear("int8", weight)).apply(x)
    weight[64, 3] = bad
    y = packed(isa, Linear("int8", weight)).apply(x)
    assert np.isnan(y[:, 64]).all()
    assert_same_bits(np.delete(y, 64, axis=1), np.delete(clean, 64, axis=1))


def test_the_error_against_the_unquantised_product_stays_in_its_bound(isa: str, rng: np.random.Generator) -> None:
    for cols, depth in [(65, 5), (96, 112), (33, 1024)]:
        weight, x = normal(rng, cols, depth), normal(rng, 9, depth)
        weight[1, 0] = x[2, 1] = 100  # outliers: the bound follows the peaks
        exact = x.astype(np.float64) @ weight.astype(np.float64).T
        y = packed(isa, Linear("int8", weight)).apply(x)
        assert_within(y, exact, int8_error(x, weight))
        assert np.abs(y - exact).max() > 1e-4 * np.abs(exact).max()  # it is quantised at all


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_the_quantised_sums(isa: str, activation: str, rng: np.random.Generator) -> None:
    layer = Linear("int8", normal(rng, 50, 19), normal(rng, 50))
    x = normal(rng, 7, 19)
    exact = layer(x).astype(np.float64)
    error = activation_error(activation, exact, rounded(exact, np.zeros_like(exact), 0))
    assert_within(packed(isa, layer).apply(x, activation), activate(activation, exact), error)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sets_with_fused_multiply_add_agree_after_an_activation(activation: str, rng: np.random.Generator) -> None:
    names = fused_isas()
    if len(names) < 2:
        pytest.skip(f"needs two vector instruction sets to compare, this processor runs {len(names)}")
    for cols, depth in [(33, 18), (320, 112), (1536, 512)]:
        layer = Linear("int8", normal(rng, cols, depth), normal(rng, cols), normal(rng, cols))
        x, residual = normal(rng, 14, depth), normal(rng, 14, cols)
        first, *others = (packed(name, layer).apply(x, activation, residual) for name in names)
        for other in others:
            assert_same_bits(other, first)


def test_one_row_gives_the_bits_of_many(isa: str, rng: np.random.Generator) -> None:
    for cols in (1, 17, 48, 64, 65, 130, 320):
        layer = Linear("int8", normal(rng, cols, 113), normal(rng, cols), normal(rng, cols))
        linear, x = packed(isa, layer), normal(rng, 40, 113)
        whole = linear.apply(x, "gelu_tanh")
        single = [linear.apply(x[i : i + 1], "gelu_tanh") for i in range(40)]
        assert_same_bits(np.concatenate(single), whole, f"{cols} columns:")


@pytest.mark.parametrize("rows", [1, 3, 16, 300])
def test_the_number_of_threads_changes_no_bit(isa: str, rows: int, rng: np.random.Generator) -> None:
    for cols, depth in [(3072, 256), (320, 112), (33, 4096)]:
        layer = Linear("int8", normal(rng, cols, depth), normal(rng, cols))
        x = normal(rng, rows, depth)
        alone = packed(isa, layer).apply(x, "silu")
        for threads in (2, 5):
            assert_same_bits(packed(isa, layer, threads).apply(x, "silu"), alone)


def test_the_packed_form_has_a_byte_a_weight_and_two_numbers_a_column() -> None:
    for cols, depth, padded in [(32, 64, 32 * 64), (33, 10, 48 * 12), (16, 1, 16 * 4)]:
        linear = kernels.PackedLinear("scalar", 1, np.ones((cols, depth), np.float32), precision="int8")
        assert linear.packed_bytes == padded + 8 * (padded // (-(-depth // 4) * 4))


def test_a_depth_whose_sums_could_overflow_is_refused() -> None:
    with pytest.raises(ValueError, match="depth 133145 could overflow its 32-bit sums"):
        kernels.PackedLinear("scalar", 1, np.ones((1, 133145), np.float32), precision="int8")


def test_the_deepest_product_does_not_overflow(isa: str) -> None:
    depth = 133144
    weight = np.ones((1, depth), np.float32)
    y = packed(isa, Linear("int8", weight)).apply(np.stack([weight[0], -weight[0]]))
    np.testing.assert_allclose(y[:, 0], [depth, -depth], rtol=3e-7)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown precision 'int4'"):
        kernels.PackedLinear("scalar", 1, np.ones((4, 4), np.float32), precision="int4")


def test_the_reference_quantises_to_the_nearest_step(rng: np.random.Generator) -> None:
    x = normal(rng, 5, 300)
    numbers, scale = quantize(x)
    assert np.abs(numbers).max(axis=1).tolist() == [127] * 5
    assert np.abs(numbers * scale[:, None].astype(np.float64) - x).max() <= scale.max() * 0.5001
