"""Layer norm, plain, affine and modulated, against float64."""

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.norm import layer_norm
from reference.rounding import assert_same_bits, assert_within

WIDTHS = (1, 2, 7, 15, 16, 17, 31, 32, 33, 48, 64, 65, 96, 112, 128, 512, 1024)
MODES = ((), ("weight",), ("weight", "bias"), ("shift", "scale"), ("weight", "bias", "shift", "scale"))


def vectors(rng: np.random.Generator, names: tuple[str, ...], n: int) -> dict[str, np.ndarray]:
    return {name: rng.standard_normal(n, dtype=np.float32) for name in names}


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("mode", MODES, ids="+".join)
@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_every_width_and_form_is_right(
    isa: str, n: int, mode: tuple[str, ...], eps: float, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((5, n), dtype=np.float32) * np.float32(3) + np.float32(0.5)
    parts = vectors(rng, mode, n)
    assert_within(kernels.layer_norm(isa, x, eps, **parts), *layer_norm(x, eps, **parts))


@pytest.mark.parametrize("n", [16, 33, 112, 1024])
@pytest.mark.parametrize("mean", [1e2, -1e3, 1e5])
def test_a_large_mean_costs_only_the_rounding_of_the_mean(
    isa: str, n: int, mean: float, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((8, n), dtype=np.float32) + np.float32(mean)
    assert_within(kernels.layer_norm(isa, x, 1e-5), *layer_norm(x, 1e-5))


@pytest.mark.parametrize("size", [1e-20, 1e-4, 1e15])
def test_tiny_and_huge_rows_are_right(isa: str, size: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal((8, 112), dtype=np.float32) * np.float32(size)
    y = kernels.layer_norm(isa, x, 1e-5)
    assert_within(y, *layer_norm(x, 1e-5))


@pytest.mark.parametrize("n", [1, 15, 16, 64, 112, 1024])
@pytest.mark.parametrize("value", [0.0, -3.0, 1000.0, 8192.0])
def test_a_constant_row_becomes_the_bias(isa: str, n: int, value: float, rng: np.random.Generator) -> None:
    # Sums of these values are whole numbers below 2^24 or a power of two, so the mean is exact.
    x = np.full((2, n), value, np.float32)
    parts = vectors(rng, ("weight", "bias"), n)
    y = kernels.layer_norm(isa, x, 1e-5, **parts)
    np.testing.assert_array_equal(y, np.broadcast_to(parts["bias"], y.shape))


def test_modulation_by_nothing_changes_nothing(isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 65), dtype=np.float32)
    nothing = np.zeros(65, np.float32)
    plain = kernels.layer_norm(isa, x, 1e-6)
    np.testing.assert_array_equal(kernels.layer_norm(isa, x, 1e-6, shift=nothing, scale=nothing), plain)


def test_rows_do_not_touch_each_other(isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((6, 49), dtype=np.float32)
    clean = kernels.layer_norm(isa, x, 1e-5)
    x[2, 48] = np.nan
    y = kernels.layer_norm(isa, x, 1e-5)
    assert np.isnan(y[2]).all()
    others = [0, 1, 3, 4, 5]
    assert_same_bits(y[others], clean[others])
    assert_same_bits(np.concatenate([kernels.layer_norm(isa, x[i : i + 1], 1e-5) for i in others]), clean[others])


def test_vector_sets_give_the_same_bits(vector_isas: tuple[str, ...], rng: np.random.Generator) -> None:
    for n in WIDTHS:
        for mode in MODES:
            x = rng.standard_normal((3, n), dtype=np.float32) + np.float32(2)
            parts = vectors(rng, mode, n)
            first, *others = (kernels.layer_norm(isa, x, 1e-5, **parts) for isa in vector_isas)
            for other in others:
                assert_same_bits(other, first, f"{n} wide, {mode}:")


def test_parts_that_do_not_fit_are_refused() -> None:
    x, short = np.zeros((2, 8), np.float32), np.zeros(7, np.float32)
    for name in ("weight", "bias", "shift", "scale"):
        with pytest.raises(ValueError, match=f"{name} has 7 elements, expected 8"):
            kernels.layer_norm("scalar", x, 1e-5, **{name: short})
    with pytest.raises(ValueError, match="shift and scale go together"):
        kernels.layer_norm("scalar", x, 1e-5, scale=np.zeros(8, np.float32))
