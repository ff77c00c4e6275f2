"""Resampling against scipy."""

import time

import numpy as np
import pytest

from pockettts_fast.audio import resample
from pockettts_fast.audio.resample import MAX_FACTOR, resample_poly
from pockettts_fast.errors import AudioError

signal = pytest.importorskip("scipy.signal")

RATES = [7350, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 192000]


def snr_db(reference: np.ndarray, actual: np.ndarray) -> float:
    reference = reference.astype(np.float64)
    error = float(np.square(reference - actual).sum())
    return 999.0 if error == 0 else 10 * np.log10(float(np.square(reference).sum()) / error)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("size", [1, 2, 479, 10_001])
def test_equals_scipy_to_and_from_the_model_rate(rng: np.random.Generator, rate: int, size: int) -> None:
    x = (0.3 * rng.standard_normal(size)).astype(np.float32)
    for up, down in ((24000, rate), (rate, 24000)):
        actual = resample_poly(x, up, down)
        exact = signal.resample_poly(x.astype(np.float64), up, down)
        assert actual.dtype == np.float32
        assert actual.shape == exact.shape
        # Sums in double and one rounding to float32: a relative error of 2^-24 / sqrt(3) rms is 149 dB.
        assert snr_db(exact, actual) >= 120
        # scipy in float32 rounds the filter and up to 20 x 8 sums: 2^-24 x sqrt(160) is still 122 dB.
        assert snr_db(signal.resample_poly(x, up, down), actual) >= 100


@pytest.mark.parametrize(
    ("up", "down"),
    [(1, 1), (1, 2), (2, 1), (1, 50), (50, 1), (3, 2), (160, 147), (101, 103), (6, 4), (24000, 44101)],
)
@pytest.mark.parametrize("size", [0, 1, 5, 600])
def test_equals_scipy_for_any_ratio(rng: np.random.Generator, up: int, down: int, size: int) -> None:
    x = rng.standard_normal(size).astype(np.float32)
    actual = resample_poly(x, up, down)
    assert actual.size == -(-size * up // down)
    if size:
        assert snr_db(signal.resample_poly(x.astype(np.float64), up, down), actual) >= 120


def test_the_filter_equals_firwin() -> None:
    for up, down in ((80, 147), (147, 80), (1, 8), (7, 1), (4801, 4800)):
        reach = 10 * max(up, down)
        full = signal.firwin(2 * reach + 1, 1.0 / max(up, down), window=("kaiser", 5.0)) * up
        # Normalised by a sum of up to 1e5 values in another order: 1e5 x 2^-53 at most.
        np.testing.assert_allclose(resample._half_lowpass(up, down), full[reach:], rtol=1e-9, atol=1e-11)


def test_the_filter_does_not_depend_on_its_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resample._half_lowpass(1001, 1000)
    monkeypatch.setattr(resample, "_DESIGN_BLOCK", 777)
    # np.i0 and np.sinc may take another vector path at block edges: a few units in the last place.
    np.testing.assert_allclose(resample._half_lowpass(1001, 1000), whole, rtol=1e-12, atol=1e-15)


def test_equal_rates_give_an_independent_copy() -> None:
    x = np.ones(4, dtype=np.float32)
    y = resample_poly(x, 24000, 24000)
    y[0] = 5.0
    assert x[0] == 1.0


def test_accepts_strided_and_read_only_input(rng: np.random.Generator) -> None:
    x = rng.standard_normal((200, 2)).astype(np.float32)
    x.flags.writeable = False
    np.testing.assert_array_equal(resample_poly(x[:, 1], 3, 2), resample_poly(x[:, 1].copy(), 3, 2))


def test_an_awkward_ratio_is_bounded_in_time(rng: np.random.Generator) -> None:
    x = rng.standard_normal(44101).astype(np.float32)
    start = time.perf_counter()
    y = resample_poly(x, 24000, 44101)
    # About 0.05 s; the bound only has to exclude work in proportion to T x up.
    assert time.perf_counter() - start < 5.0
    assert y.size == 24000


def test_a_ratio_beyond_the_limit_is_an_error() -> None:
    with pytest.raises(AudioError, match="lowest terms"):
        resample_poly(np.ones(4, np.float32), MAX_FACTOR + 1, 1)
    # ... but only in lowest terms.
    assert resample_poly(np.ones(4, np.float32), 2 * (MAX_FACTOR + 1), MAX_FACTOR + 1).size == 8


@pytest.mark.parametrize(("up", "down"), [(0, 1), (1, 0), (-3, 2)])
def test_rates_have_to_be_positive(up: int, down: int) -> None:
    with pytest.raises(AudioError, match="positive"):
        resample_poly(np.ones(4, np.float32), up, down)


def test_only_one_channel_is_resampled() -> None:
    with pytest.raises(AudioError, match="one channel"):
        resample_poly(np.ones((2, 4), np.float32), 2, 1)
