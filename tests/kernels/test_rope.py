"""Rotary embedding against complex multiplication in float64."""

import numpy as np
import pytest

from pockettts_fast._core import available_isas, kernels
from reference.rope import rope
from reference.rounding import assert_same_bits, assert_within, gamma


def angles(head_dim: int, position: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of a position, period 10000."""
    phase = position * 10000.0 ** (-np.arange(head_dim // 2) * 2.0 / head_dim)
    return np.cos(phase).astype(np.float32), np.sin(phase).astype(np.float32)


@pytest.mark.parametrize("head_dim", [2, 6, 8, 16, 24, 32, 64, 80])
@pytest.mark.parametrize("heads", [1, 3, 16])
@pytest.mark.parametrize("position", [0, 1, 999])
def test_pairs_turn_by_their_angle(
    isa: str, head_dim: int, heads: int, position: int, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((heads, head_dim), dtype=np.float32)
    cosine, sine = angles(head_dim, position)
    assert_within(kernels.rope(isa, x, cosine, sine), *rope(x, cosine, sine))


def test_position_zero_changes_nothing(isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 64), dtype=np.float32)
    np.testing.assert_array_equal(kernels.rope(isa, x, *angles(64, 0)), x)


def test_a_quarter_turn_moves_each_pair_onto_itself(isa: str) -> None:
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 8)
    y = kernels.rope(isa, x, np.zeros(4, np.float32), np.ones(4, np.float32))
    np.testing.assert_array_equal(y[0], [-2, 1, -4, 3, -6, 5, -8, 7])


def test_scores_depend_on_the_distance_alone(isa: str, rng: np.random.Generator) -> None:
    q, k = (rng.standard_normal((1, 64), dtype=np.float32) for _ in range(2))

    def score(at: int, other: int) -> float:
        turned = [kernels.rope(isa, x, *angles(64, p)).astype(np.float64) for x, p in ((q, at), (k, other))]
        return float(np.sum(turned[0] * turned[1]))

    # A turned component is at most |re| + |im|, off by three roundings of that (table, product, sum).
    # Two components a pair, two factors each, two scores.
    q_size, k_size = (np.abs(x.astype(np.float64)).reshape(-1, 2).sum(axis=1) for x in (q, k))
    assert abs(score(5, 2) - score(105, 102)) <= 2 * 2 * 2 * gamma(3) * (q_size @ k_size)


def test_every_set_gives_the_same_bits(rng: np.random.Generator) -> None:
    # Products and sums alone, none of them fused: scalar included.
    for head_dim in (2, 6, 24, 64, 80):
        x = rng.standard_normal((3, head_dim), dtype=np.float32)
        first, *others = (kernels.rope(isa, x, *angles(head_dim, 77)) for isa in available_isas())
        for other in others:
            assert_same_bits(other, first)


def test_the_input_is_left_alone(isa: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 8), dtype=np.float32)
    before = x.copy()
    kernels.rope(isa, x, *angles(8, 3))
    np.testing.assert_array_equal(x, before)


def test_angles_that_do_not_fit_are_refused() -> None:
    x = np.zeros((2, 8), np.float32)
    with pytest.raises(ValueError, match="must have 4 elements each"):
        kernels.rope("scalar", x, np.zeros(4, np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="even head dimension"):
        kernels.rope("scalar", np.zeros((2, 7), np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32))
