"""The noise source: arguments, stream behaviour, distribution, speed of a draw."""

import math
import zlib

import numpy as np
import pytest

from pockettts_fast.sampling import NoiseSource


def stream(source: NoiseSource, count: int) -> np.ndarray:
    return np.stack([source.draw() for _ in range(count)])


def reference_twister(seed: int, count: int) -> list[int]:
    """MT19937 word by word, from the paper of Matsumoto and Nishimura."""
    state = [seed & 0xFFFFFFFF]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) & 0xFFFFFFFF)
    words = []
    while len(words) < count:
        for i in range(624):
            mixed = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7FFFFFFF)
            state[i] = state[(i + 397) % 624] ^ (mixed >> 1) ^ (0x9908B0DF if mixed & 1 else 0)
        for word in state:
            word ^= word >> 11
            word ^= (word << 7) & 0x9D2C5680
            word ^= (word << 15) & 0xEFC60000
            words.append(word ^ (word >> 18))
    return words[:count]


@pytest.mark.parametrize("seed", [0, 5, -1, 2**32 + 5, 2**63, 2**64 - 1])
def test_wide_draws_follow_box_muller_over_blocks_of_sixteen(seed):
    dim = 32
    uniform = [(word & 0xFFFFFF) / 2**24 for word in reference_twister(seed, 3 * dim)]
    expected = np.empty(3 * dim)
    for block in range(0, 3 * dim, 16):
        for j in range(8):
            radius = math.sqrt(-2 * math.log(1 - uniform[block + j]))
            theta = 2 * math.pi * uniform[block + j + 8]
            expected[block + j] = radius * math.cos(theta)
            expected[block + j + 8] = radius * math.sin(theta)
    got = stream(NoiseSource(seed, dim, 1.0, None), 3).reshape(-1)
    # theta is rounded to float32: up to 2**-22 absolute at theta < 8, times a radius below 5.8.
    assert np.abs(got - expected).max() < 5.8 * 2**-22


def test_a_width_with_a_tail_recomputes_its_last_sixteen_values():
    uniform = [(word & 0xFFFFFF) / 2**24 for word in reference_twister(3, 20 + 16)]
    radius = math.sqrt(-2 * math.log(1 - uniform[20]))
    theta = 2 * math.pi * uniform[28]
    first = NoiseSource(3, 20, 1.0, None).draw()
    assert abs(first[4] - radius * math.cos(theta)) < 5.8 * 2**-22
    assert abs(first[12] - radius * math.sin(theta)) < 5.8 * 2**-22


def test_narrow_draws_hand_the_second_half_of_a_pair_to_the_next_draw():
    words = reference_twister(8, 4 * 8)
    values = []
    for i in range(0, len(words), 4):
        u1, u2 = ((((words[i + k] << 32) | words[i + k + 1]) & (2**53 - 1)) / 2**53 for k in (0, 2))
        radius = math.sqrt(-2 * math.log1p(-u2))
        values += [radius * math.cos(2 * math.pi * u1), radius * math.sin(2 * math.pi * u1)]
    got = stream(NoiseSource(8, 5, 1.0, None), 3).reshape(-1)
    np.testing.assert_allclose(got, values[:15], rtol=2 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("clamp", [None, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("dim", [7, 32])
def test_discard_advances_by_one_draw(clamp, dim):
    whole = stream(NoiseSource(4, dim, 0.3, clamp), 200)
    source = NoiseSource(4, dim, 0.3, clamp)
    for k in range(200):
        if k % 3:
            source.discard()
        else:
            np.testing.assert_array_equal(source.draw(), whole[k])


def test_seeds_are_taken_modulo_two_to_the_thirty_two():
    want = stream(NoiseSource(5, 32, 1.0, None), 3)
    np.testing.assert_array_equal(stream(NoiseSource(2**32 + 5, 32, 1.0, None), 3), want)
    np.testing.assert_array_equal(stream(NoiseSource(5 - 2**32, 32, 1.0, None), 3), want)


def test_without_a_seed_two_sources_differ():
    first, second = (NoiseSource(None, 32, 1.0, None).draw() for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("clamp", [0.05, 0.3, 0.5, 1.0, 3.0])
def test_the_clamp_truncates_and_does_not_clip(clamp):
    source = NoiseSource(zlib.crc32(b"truncates"), 32, 0.3, clamp)
    values = stream(source, 300)
    assert np.abs(values).max() <= np.float32(clamp)
    assert np.mean(np.abs(values) == np.float32(clamp)) < 1e-3
    # Variance of a normal truncated at +-c: s**2 (1 - 2 z phi(z) / (2 Phi(z) - 1)), z = c / s.
    z = clamp / 0.3**0.5
    mass = math.erf(z / math.sqrt(2))
    variance = 0.3 * (1 - 2 * z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / mass)
    # 9600 values: the standard error of a variance is at most sqrt(2 / 9600) = 1.5 %.
    assert abs(values.var() / variance - 1) < 5 * 0.015


def test_zero_temperature_gives_zeros_with_and_without_a_clamp():
    for clamp in (None, 1.0):
        assert not stream(NoiseSource(1, 32, 0.0, clamp), 70).any()


def test_the_variance_is_the_temperature():
    values = stream(NoiseSource(6, 32, 0.7, None), 500)
    assert abs(values.var() / 0.7 - 1) < 5 * math.sqrt(2 / values.size)


def test_a_draw_belongs_to_the_caller():
    want = stream(NoiseSource(2, 32, 1.0, 0.9), 100)
    source = NoiseSource(2, 32, 1.0, 0.9)
    for row in want:
        drawn = source.draw()
        np.testing.assert_array_equal(drawn, row)
        assert drawn.flags.c_contiguous
        assert drawn.flags.writeable
        drawn[:] = np.nan


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64, 10**30])
def test_a_seed_outside_torchs_range_is_refused(seed):
    with pytest.raises(ValueError, match="between"):
        NoiseSource(seed, 32, 1.0, None)


def test_a_seed_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match="integer"):
        NoiseSource(1.5, 32, 1.0, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf, -math.inf, 1e300])
def test_an_impossible_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        NoiseSource(1, 32, temperature, None)


@pytest.mark.parametrize("clamp", [0.0, -1.0, math.nan])
def test_an_impossible_clamp_is_refused(clamp):
    with pytest.raises(ValueError, match="clamp"):
        NoiseSource(1, 32, 0.3, clamp)


def test_a_width_below_one_is_refused():
    with pytest.raises(ValueError, match="width"):
        NoiseSource(1, 0, 0.3, None)
