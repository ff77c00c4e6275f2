"""Linear layers against float64, and the promise of equal bits."""

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.gemm import Linear
from reference.rounding import assert_same_bits, assert_within

# (cols, depth) of the released models.
ENGLISH = {
    "in_proj": (3072, 1024),
    "out_proj": (1024, 1024),
    "linear1": (4096, 1024),
    "linear2": (1024, 4096),
    "eos": (1, 1024),
    "latent_in": (1024, 32),
    "flow_in": (512, 32),
    "flow_adaln": (1536, 512),
    "flow_out": (32, 512),
    "codec_linear1": (2048, 512),
    "codec_quantizer": (512, 32),
}
ENGLISH_2M = {
    "in_proj": (320, 112),
    "out_proj": (112, 192),
    "linear1": (96, 112),
    "linear2": (112, 96),
    "eos": (1, 64),
    "z": (64, 112),
    "text_rank": (112, 32),
    "flow_adaln": (192, 64),
    "codec_in_proj": (384, 128),
    "codec_linear2": (128, 384),
}
EDGE_COLS = (1, 7, 15, 16, 17, 31, 32, 33, 48, 49, 63, 64, 65, 96)
ACTIVATIONS = ("none", "elu", "silu", "gelu_tanh")


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def packed(isa: str, layer: Linear, threads: int = 1) -> kernels.PackedLinear:
    return kernels.PackedLinear(isa, threads, layer.weight, layer.bias, layer.scale)


@pytest.mark.parametrize("cols", EDGE_COLS)
def test_every_number_of_rows_up_to_two_tiles_is_right(isa: str, cols: int, rng: np.random.Generator) -> None:
    layer = Linear(normal(rng, cols, 37), bias=normal(rng, cols))
    x = normal(rng, 26, 37)
    expected, error = layer(x)
    linear = packed(isa, layer)
    for rows in range(1, 27):
        assert_within(linear.apply(x[:rows]), expected[:rows], error[:rows], f"{rows} rows:")


def test_every_depth_up_to_seventy_is_right(isa: str, rng: np.random.Generator) -> None:
    for depth in range(1, 71):
        layer = Linear(normal(rng, 49, depth))
        x = normal(rng, 14, depth)
        linear = packed(isa, layer)
        for rows in (1, 5, 14):
            assert_within(linear.apply(x[:rows]), *(a[:rows] for a in layer(x)), f"depth {depth}:")


@pytest.mark.parametrize("depth", [4096, 20011])
def test_a_long_chain_stays_within_its_bound(isa: str, depth: int, rng: np.random.Generator) -> None:
    layer = Linear(normal(rng, 65, depth))
    x = normal(rng, 13, depth)
    assert_within(packed(isa, layer).apply(x), *layer(x))


@pytest.mark.parametrize("shape", [*ENGLISH.values(), *ENGLISH_2M.values()], ids=str)
def test_the_released_shapes_are_right(isa: str, shape: tuple[int, int], rng: np.random.Generator) -> None:
    cols, depth = shape
    layer = Linear(normal(rng, cols, depth), bias=normal(rng, cols))
    linear = packed(isa, layer, threads=2)
    for rows in (1, 2, 16, 25):
        x = normal(rng, rows, depth)
        assert_within(linear.apply(x), *layer(x), f"{rows} rows:")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("parts", ["", "b", "s", "r", "bs", "br", "sr", "bsr"])
def test_the_epilogue_adds_activates_scales_and_adds(
    isa: str, activation: str, parts: str, rng: np.random.Generator
) -> None:
    for cols in (1, 16, 23, 50, 96):
        layer = Linear(
            normal(rng, cols, 19),
            bias=normal(rng, cols) if "b" in parts else None,
            activation=activation,
            scale=normal(rng, cols) if "s" in parts else None,
        )
        for rows in (1, 7):
            x = normal(rng, rows, 19)
            residual = normal(rng, rows, cols) if "r" in parts else None
            y = packed(isa, layer).apply(x, activation, residual)
            assert_within(y, *layer(x, residual), f"{rows} x {cols}:")


def test_one_row_gives_the_bits_of_many(isa: str, rng: np.random.Generator) -> None:
    for cols in (1, 17, 48, 64, 65, 96, 130, 320):
        layer = Linear(normal(rng, cols, 112), bias=normal(rng, cols), scale=normal(rng, cols))
        linear = packed(isa, layer)
        x, residual = normal(rng, 60, 112), normal(rng, 60, cols)
        whole = linear.apply(x, "gelu_tanh", residual)
        single = [linear.apply(x[i : i + 1], "gelu_tanh", residual[i : i + 1]) for i in range(60)]
        assert_same_bits(np.concatenate(single), whole, f"{cols} columns:")


def test_any_split_of_the_rows_gives_the_same_bits(isa: str, rng: np.random.Generator) -> None:
    layer = Linear(normal(rng, 200, 512), bias=normal(rng, 200))
    linear = packed(isa, layer)
    x = normal(rng, 500, 512)  # more than one block of rows
    whole = linear.apply(x)
    for _ in range(5):
        first = int(rng.integers(1, 499))
        assert_same_bits(np.concatenate([linear.apply(x[:first]), linear.apply(x[first:])]), whole)


@pytest.mark.parametrize("rows", [1, 3, 16, 300])
def test_the_number_of_threads_changes_no_bit(isa: str, rows: int, rng: np.random.Generator) -> None:
    for cols, depth in [(3072, 256), (320, 112), (33, 4096), (1, 2048)]:
        layer = Linear(normal(rng, cols, depth), bias=normal(rng, cols))
        x = normal(rng, rows, depth)
        alone = packed(isa, layer, threads=1).apply(x, "silu")
        for threads in (2, 5):
            assert_same_bits(packed(isa, layer, threads).apply(x, "silu"), alone, f"{cols} x {depth}:")


def test_vector_sets_give_the_same_bits(vector_isas: tuple[str, ...], rng: np.random.Generator) -> None:
    shapes = [(cols, 41) for cols in EDGE_COLS] + list(ENGLISH_2M.values()) + [ENGLISH["in_proj"]]
    for cols, depth in shapes:
        layer = Linear(normal(rng, cols, depth), bias=normal(rng, cols), scale=normal(rng, cols))
        for rows in (1, 2, 3, 12, 13, 26):
            x, residual = normal(rng, rows, depth), normal(rng, rows, cols)
            activation = ACTIVATIONS[rows % 4]
            first, *others = (packed(isa, layer).apply(x, activation, residual) for isa in vector_isas)
            for other in others:
                assert_same_bits(other, first, f"{rows} x {cols} x {depth}:")


def test_a_wide_range_of_magnitudes_stays_within_the_bound(isa: str, rng: np.random.Generator) -> None:
    sizes = 10.0 ** rng.uniform(-15, 15, (40, 129)).astype(np.float32)
    layer = Linear(normal(rng, 40, 129) * sizes)
    x = normal(rng, 9, 129)
    assert_within(packed(isa, layer).apply(x), *layer(x))


def test_whole_numbers_are_summed_exactly(isa: str, rng: np.random.Generator) -> None:
    weight, x = (rng.integers(-8, 9, shape).astype(np.float32) for shape in [(70, 1000), (26, 1000)])
    expected = (x.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float32)
    np.testing.assert_array_equal(packed(isa, Linear(weight)).apply(x), expected)


def test_a_nan_stays_in_its_row_and_in_its_column(isa: str, rng: np.random.Generator) -> None:
    weight, x = normal(rng, 70, 20), normal(rng, 26, 20)
    weight[64, 3] = np.nan
    x[11, 19] = np.nan
    expected = np.zeros((26, 70), bool)
    expected[11] = expected[:, 64] = True
    for activation in ACTIVATIONS:
        y = packed(isa, Linear(weight)).apply(x, activation)
        np.testing.assert_array_equal(np.isnan(y), expected)


def test_packing_pads_the_last_panel_to_sixteen_or_thirty_two_columns() -> None:
    for cols, padded in [(1, 16), (16, 16), (17, 32), (32, 32), (33, 48), (48, 48), (49, 64)]:
        linear = kernels.PackedLinear("scalar", 1, np.ones((cols, 10), np.float32))
        assert linear.packed_bytes == 4 * 10 * padded


def test_no_rows_give_no_rows(isa: str) -> None:
    linear = kernels.PackedLinear(isa, 2, np.ones((40, 8), np.float32))
    assert linear.apply(np.zeros((0, 8), np.float32)).shape == (0, 40)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 7), np.float32), "7 wide, the weight 8"),
        (np.zeros(8, np.float32), "2 dimensions, got 1"),
        (np.zeros((2, 8)), "C-contiguous float32"),
        (np.zeros((2, 16), np.float32)[:, ::2], "C-contiguous float32"),
    ],
    ids=["width", "dimensions", "dtype", "strides"],
)
def test_an_input_that_does_not_fit_is_refused(x: np.ndarray, message: str) -> None:
    linear = kernels.PackedLinear("scalar", 1, np.ones((40, 8), np.float32))
    with pytest.raises(ValueError, match=message):
        linear.apply(x)


def test_parts_of_the_epilogue_that_do_not_fit_are_refused() -> None:
    weight = np.ones((40, 8), np.float32)
    for part in ("bias", "scale"):
        with pytest.raises(ValueError, match=f"{part} has 39 elements, expected 40"):
            kernels.PackedLinear("scalar", 1, weight, **{part: np.ones(39, np.float32)})
    linear = kernels.PackedLinear("scalar", 1, weight)
    with pytest.raises(ValueError, match="residual is 2 x 40, expected 3 x 40"):
        linear.apply(np.ones((3, 8), np.float32), residual=np.ones((2, 40), np.float32))
    with pytest.raises(ValueError, match="unknown activation 'relu'"):
        linear.apply(np.ones((3, 8), np.float32), "relu")
