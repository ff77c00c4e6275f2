"""The compiled sample loops against plain NumPy."""

import math

import numpy as np
import pytest

from pockettts_fast.audio._dsp import (
    DcBlock,
    fade_in_inplace,
    fade_out_inplace,
    float_to_int16,
    peak,
    polyphase,
)

EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 1.5, -1.5, 1e30, -1e30, 0.5, -0.5, 1 / 32767, -1 / 32767, 0.99 / 32767, 1e-45],
    dtype=np.float32,
)


def ramp(n: int) -> np.ndarray:
    """A rising ramp of n points as torch.linspace makes it: from the nearer end, rounded once."""
    if n <= 1:
        return np.zeros(n, np.float32)
    step = np.float64(np.float32(1.0) / np.float32(n - 1))
    i = np.arange(n)
    return np.where(i < n // 2, step * i, 1.0 - step * (n - 1 - i)).astype(np.float32)


def falling_ramp(n: int) -> np.ndarray:
    """A falling ramp of n points, measured from the nearer end likewise; a single point is its start, 1."""
    if n <= 1:
        return np.ones(n, np.float32)
    step = np.float64(np.float32(1.0) / np.float32(n - 1))
    i = np.arange(n)
    return np.where(i < n // 2, 1.0 - step * i, step * (n - 1 - i)).astype(np.float32)


def test_int16_is_the_clipped_product_truncated_toward_zero(rng: np.random.Generator) -> None:
    x = np.concatenate([EDGES, rng.uniform(-1.2, 1.2, 10_001).astype(np.float32)])
    expected = np.trunc(np.clip(x, -1, 1) * np.float32(32767)).astype(np.int16)
    actual = float_to_int16(x)
    assert actual.dtype == np.int16
    np.testing.assert_array_equal(actual, expected)


def test_int16_of_nan_is_zero_and_infinities_clip() -> None:
    x = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
    np.testing.assert_array_equal(float_to_int16(x), [0, 32767, -32767])


def test_int16_accepts_empty_and_read_only_arrays() -> None:
    x = np.zeros(3, dtype=np.float32)
    x.flags.writeable = False
    assert float_to_int16(x).size == 3
    assert float_to_int16(x[:0]).size == 0


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 40, 110, 120, 240, 441, 480])
@pytest.mark.parametrize("size", [0, 1, 7, 120, 1000])
def test_fades_multiply_by_the_ramp(rng: np.random.Generator, n: int, size: int) -> None:
    x = rng.standard_normal(size).astype(np.float32)
    count = min(n, size)
    expected = x.copy()
    expected[:count] *= ramp(n)[:count]
    actual = x.copy()
    fade_in_inplace(actual, n)
    np.testing.assert_array_equal(actual, expected)

    expected = x.copy()
    expected[size - count :] *= falling_ramp(n)[n - count :]
    actual = x.copy()
    fade_out_inplace(actual, n)
    np.testing.assert_array_equal(actual, expected)


def test_fades_keep_the_rest_and_reject_a_negative_length() -> None:
    x = np.ones(100, dtype=np.float32)
    fade_in_inplace(x, 10)
    fade_out_inplace(x, 10)
    assert x[0] == 0.0
    assert x[-1] == 0.0
    assert (x[10:90] == 1.0).all()
    with pytest.raises(ValueError, match="0 or more"):
        fade_in_inplace(x, -1)
    with pytest.raises(ValueError, match="0 or more"):
        fade_out_inplace(x, -1)


def test_peak_is_the_largest_magnitude_and_skips_nan(rng: np.random.Generator) -> None:
    x = rng.standard_normal(1001).astype(np.float32)
    assert peak(x) == float(np.abs(x).max())
    assert peak(np.array([0.25, np.nan, -0.5], dtype=np.float32)) == 0.5
    assert peak(np.array([], dtype=np.float32)) == 0.0
    assert peak(np.array([-np.inf, 1], dtype=np.float32)) == math.inf


def test_dc_block_equals_its_recursion(rng: np.random.Generator) -> None:
    x = (rng.standard_normal(2000) + 0.3).astype(np.float32)
    pole = math.exp(-2 * math.pi * 20.0 / 24000)
    expected = np.empty(x.size)
    before = value = 0.0
    for t, sample in enumerate(x.astype(np.float64)):
        value = sample - before + pole * value
        before = sample
        expected[t] = value
    # The state is in double in both; only the store rounds, to half a unit in the last place of float32.
    np.testing.assert_allclose(DcBlock(20.0, 24000).process(x), expected, rtol=2**-24, atol=1e-12)


def test_dc_block_removes_a_constant_and_keeps_speech_frequencies() -> None:
    t = np.arange(48000) / 24000
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    y = DcBlock(20.0, 24000).process((tone + 0.25).astype(np.float32))
    tail = y[24000:].astype(np.float64)
    assert abs(tail.mean()) < 1e-5
    # |H(440 Hz)| of a 20 Hz one-pole is 1 / sqrt(1 + (20/440)^2) = 0.999 to first order.
    assert tail.std() / tone[24000:].std() == pytest.approx(1.0, abs=2e-3)


def test_dc_block_in_any_chunks_equals_the_whole_exactly(rng: np.random.Generator) -> None:
    x = rng.standard_normal(5000).astype(np.float32)
    whole = DcBlock(35.0, 24000).process(x)
    for _ in range(5):
        cuts = np.sort(rng.integers(0, x.size + 1, 12))
        block = DcBlock(35.0, 24000)
        parts = [block.process(part) for part in np.split(x, cuts)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    block.reset()
    np.testing.assert_array_equal(block.process(x), whole)


@pytest.mark.parametrize(
    ("cutoff", "rate"), [(0.0, 24000), (-1.0, 24000), (12000.0, 24000), (math.nan, 24000), (5.0, 0)]
)
def test_dc_block_rejects_an_impossible_cutoff(cutoff: float, rate: int) -> None:
    with pytest.raises(ValueError, match="cutoff"):
        DcBlock(cutoff, rate)


@pytest.mark.parametrize(("up", "down"), [(1, 1), (3, 1), (1, 3), (3, 2), (2, 3), (7, 5), (1, 9)])
@pytest.mark.parametrize("reach", [0, 1, 4, 31])
def test_polyphase_equals_the_sum_it_documents(rng: np.random.Generator, up: int, down: int, reach: int) -> None:
    x = rng.standard_normal(23).astype(np.float32)
    half = rng.standard_normal(reach + 1)
    outputs = 40  # beyond the end of the input for most ratios
    expected = np.zeros(outputs)
    for n in range(outputs):
        for i in range(x.size):
            distance = abs(n * down - i * up)
            if distance <= reach:
                expected[n] += float(x[i]) * half[distance]
    # Products and sums in double; half a unit in the last place of float32 for the store, of sums of
    # at most 23 products of magnitude ~ 3 x 3.
    np.testing.assert_allclose(polyphase(x, half, up, down, outputs), expected, rtol=2**-23, atol=1e-12)


def test_polyphase_of_nothing_is_silence() -> None:
    half = np.ones(3)
    assert polyphase(np.zeros(0, np.float32), half, 2, 1, 5).tolist() == [0.0] * 5
    assert polyphase(np.ones(4, np.float32), half, 2, 1, 0).size == 0
    for arguments in ((half, 0, 1, 1), (half, 1, 0, 1), (half, 1, 1, -1), (half[:0], 1, 1, 1)):
        with pytest.raises(ValueError, match="polyphase needs"):
            polyphase(np.ones(4, np.float32), *arguments)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(4),
        np.zeros((2, 2), np.float32),
        np.zeros(8, np.float32)[::2],
        np.zeros(4, np.int16),
        [0.0, 1.0],
        None,
    ],
    ids=["float64", "2-D", "strided", "int16", "list", "None"],
)
def test_a_wrong_array_is_an_error_and_not_a_crash(wrong: object) -> None:
    for function in (float_to_int16, peak, lambda x: fade_in_inplace(x, 2), DcBlock(20.0, 24000).process):
        with pytest.raises((ValueError, TypeError)):
            function(wrong)  # type: ignore[arg-type, operator]
