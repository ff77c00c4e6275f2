"""exp, ELU, SiLU and GELU: stated error bounds measured densely, and every special value."""

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.activation import EXP, activate, own_error
from reference.rounding import UNIT, assert_same_bits, assert_within

NAMES = ("none", "elu", "silu", "gelu_tanh")


def dense() -> np.ndarray:
    """Numbers of every exponent and sign, and a close grid where the functions bend."""
    bits = np.arange(0x00000000, 0x47C00000, 1021, dtype=np.uint32).view(np.float32)  # 0 .. 98304
    grid = np.linspace(-12, 12, 400_001, dtype=np.float32)
    return np.concatenate([bits, -bits, grid])


def exp_range() -> np.ndarray:
    """[-87, 88] closely, and more closely around the ends of each step of ln 2."""
    grid = np.linspace(-87, 88, 1_500_001, dtype=np.float32)
    ends = (np.arange(-251, 252, 2) * np.log(2) / 2).astype(np.float32)
    near = ends[:, None] * (1 + np.arange(-300, 301, dtype=np.float32) * np.float32(2.0**-23))
    tiny = np.geomspace(1e-40, 1, 50_000).astype(np.float32)
    out = np.concatenate([grid, near.ravel(), tiny, -tiny])
    return out[(out >= -87) & (out <= 88)]


def test_exp_keeps_its_stated_bound_over_the_whole_range(isa: str) -> None:
    x = exp_range()
    y = kernels.activate(isa, "exp", x)
    worst = np.abs(y / np.exp(x.astype(np.float64)) - 1).max()
    assert worst <= EXP, f"relative error {worst:.3g}"


def test_exp_is_one_at_zero_zero_below_its_range_and_saturates_above(isa: str) -> None:
    below = np.array([-87.1, -88, -100, -1e10, -3.4e38, -np.inf], np.float32)
    assert_same_bits(kernels.activate(isa, "exp", below), np.zeros(6, np.float32))
    above = np.array([88, 88.1, 89, 1e10, 3.4e38, np.inf], np.float32)
    y = kernels.activate(isa, "exp", above)
    assert np.isfinite(y).all()
    assert (y == y[0]).all()
    np.testing.assert_array_equal(kernels.activate(isa, "exp", np.array([0.0, -0.0], np.float32)), [1, 1])


@pytest.mark.parametrize("name", NAMES)
def test_every_magnitude_is_within_the_bound(isa: str, name: str) -> None:
    x = dense()
    assert_within(kernels.activate(isa, name, x), activate(name, x), own_error(name, x), name)


def test_elu_has_no_cancellation_near_zero(isa: str) -> None:
    x = -np.geomspace(1e-37, 1, 200_001).astype(np.float32)
    expected = np.expm1(x.astype(np.float64))
    worst = np.abs(kernels.activate(isa, "elu", x) / expected - 1).max()
    assert worst <= EXP + 2 * UNIT, f"relative error {worst:.3g}"


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan_and_its_neighbours_stay_numbers(isa: str, name: str) -> None:
    for n in (1, 15, 16, 17, 40):
        for at in range(n):
            x = np.linspace(-2, 2, n, dtype=np.float32)
            x[at] = np.nan
            np.testing.assert_array_equal(np.isnan(kernels.activate(isa, name, x)), np.arange(n) == at)
    np.testing.assert_array_equal(
        np.isnan(kernels.activate(isa, "exp", np.array([np.nan, -np.nan, 0], np.float32))), [1, 1, 0]
    )


@pytest.mark.parametrize("name", NAMES)
def test_plus_infinity_stays(isa: str, name: str) -> None:
    assert kernels.activate(isa, name, np.array([np.inf], np.float32))[0] == np.inf


def test_minus_infinity_is_minus_one_for_elu_and_never_a_number_for_the_others(isa: str) -> None:
    x = np.array([-np.inf], np.float32)
    assert kernels.activate(isa, "elu", x)[0] == -1
    for name in ("silu", "gelu_tanh"):  # 0 * infinity: torch gives NaN
        assert not np.isfinite(kernels.activate(isa, name, x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_zero_keeps_its_sign(isa: str, name: str) -> None:
    y = kernels.activate(isa, name, np.array([0.0, -0.0], np.float32))
    np.testing.assert_array_equal(y, [0, 0])
    np.testing.assert_array_equal(np.signbit(y), [False, True])


@pytest.mark.parametrize("name", NAMES)
def test_denormals_are_not_flushed(isa: str, name: str) -> None:
    x = np.array([1, 2, 1000, 0x7FFFFF, 0x800000], np.uint32).view(np.float32)
    x = np.concatenate([x, -x])
    y = kernels.activate(isa, name, x)
    slope = np.float32(1.0 if name in ("none", "elu") else 0.5)
    assert_within(y, (x * slope).astype(np.float64), np.full(10, 2.0**-149))


@pytest.mark.parametrize("name", ["silu", "gelu_tanh"])
def test_far_below_zero_the_result_dies_out(isa: str, name: str) -> None:
    x = -np.geomspace(90, 1e10, 1000).astype(np.float32)
    y = kernels.activate(isa, name, x)
    assert (np.abs(y) <= np.abs(x) * 1e-38).all()


@pytest.mark.parametrize("name", ["exp", *NAMES])
def test_a_value_does_not_depend_on_its_place(isa: str, name: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal(67, dtype=np.float32) * np.float32(5)
    whole = kernels.activate(isa, name, x)
    for n in range(67):
        assert_same_bits(kernels.activate(isa, name, x[:n]), whole[:n])
    assert_same_bits(np.concatenate([kernels.activate(isa, name, x[i : i + 1]) for i in range(67)]), whole)


@pytest.mark.parametrize("name", ["exp", *NAMES])
def test_vector_sets_give_the_same_bits(vector_isas: tuple[str, ...], name: str) -> None:
    special = np.array([np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, 1e-45, -1e-45, 88, -87], np.float32)
    x = np.concatenate([dense()[::7], special])
    first, *others = (kernels.activate(isa, name, x) for isa in vector_isas)
    for other in others:
        assert_same_bits(other, first)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown activation 'tanh'"):
        kernels.activate("scalar", "tanh", np.zeros(3, np.float32))
