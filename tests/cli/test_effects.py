"""What ``--dc-block``, ``--fade-ms`` and ``--normalize`` do to chunks of sound."""

import zlib

import numpy as np
import pytest

from pockettts_fast.cli.effects import NORMAL_PEAK, Effects

RATE = 24000


@pytest.fixture
def sound(request: pytest.FixtureRequest) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(request.node.name.encode()))
    return (0.1 + 0.2 * rng.standard_normal(5 * 1920)).astype(np.float32)


def applied(effects: Effects, sound: np.ndarray, *cuts: int) -> np.ndarray:
    return np.concatenate(list(effects.apply(np.split(sound, cuts), RATE)))


def test_nothing_asked_is_nothing_done(sound: np.ndarray) -> None:
    chunks = np.split(sound, [1920])
    assert [id(chunk) for chunk in Effects().apply(chunks, RATE)] == [id(chunk) for chunk in chunks]


@pytest.mark.parametrize(
    "effects",
    [
        Effects(dc_block=True),
        Effects(fade_ms=5.0),
        Effects(fade_ms=150.0),
        Effects(fade_ms=10_000.0),
        Effects(normalize=True),
        Effects(dc_block=True, fade_ms=7.0, normalize=True),
    ],
    ids=str,
)
def test_any_chunking_equals_the_whole(effects: Effects, sound: np.ndarray) -> None:
    whole = applied(effects, sound)
    assert whole.size == sound.size
    np.testing.assert_array_equal(applied(effects, sound, 1, 2, 1920, 1921, 5000), whole)
    np.testing.assert_array_equal(applied(effects, sound, *range(0, sound.size, 240)), whole)


def test_the_input_is_not_changed(sound: np.ndarray) -> None:
    before = sound.copy()
    applied(Effects(dc_block=True, fade_ms=7.0, normalize=True), sound)
    np.testing.assert_array_equal(sound, before)


def test_a_fade_is_linear_at_both_ends_and_leaves_the_middle() -> None:
    faded = applied(Effects(fade_ms=10.0), np.ones(1920, np.float32), 700)
    ramp = np.linspace(0.0, 1.0, 240)
    # The ramp is computed in float32: one rounding of a value up to 1.
    np.testing.assert_allclose(faded[:240], ramp, atol=np.finfo(np.float32).eps)
    np.testing.assert_allclose(faded[-240:], ramp[::-1], atol=np.finfo(np.float32).eps)
    np.testing.assert_array_equal(faded[240:-240], 1.0)


def test_a_fade_holds_back_no_more_than_its_length() -> None:
    chunks = iter(Effects(fade_ms=5.0).apply(iter(np.ones((3, 1920), np.float32)), RATE))
    assert next(chunks).size == 1920 - 120


def test_normalising_reaches_the_peak_and_bears_silence(sound: np.ndarray) -> None:
    # One rounding of the factor and one of the product.
    eps = float(np.finfo(np.float32).eps)
    assert np.abs(applied(Effects(normalize=True), sound)).max() == pytest.approx(NORMAL_PEAK, rel=2 * eps)
    silence = np.zeros(10, np.float32)
    np.testing.assert_array_equal(applied(Effects(normalize=True), silence), silence)


def test_an_offset_is_gone_after_a_while() -> None:
    blocked = applied(Effects(dc_block=True), np.ones(RATE, np.float32))
    # A constant decays as exp(-2 pi 20 t): below 1e-8 after 0.15 s.
    assert np.abs(blocked[RATE * 15 // 100 :]).max() < 1e-7


@pytest.mark.parametrize("effects", [Effects(), Effects(dc_block=True, fade_ms=5.0, normalize=True)], ids=str)
def test_no_sound_stays_no_sound(effects: Effects) -> None:
    assert sum(chunk.size for chunk in effects.apply([], RATE)) == 0
