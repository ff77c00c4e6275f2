"""Voice prompts: arrays in, the ended prompt out."""

import logging

import numpy as np
import pytest

from pockettts_fast.audio.prompt import as_prompt_array, end_on_pause, prepare_prompt
from pockettts_fast.audio.resample import resample_poly
from pockettts_fast.errors import AudioError

RATE = 24000
FRAME, PAUSE = 480, 1920


def tone(frames: int, level: float) -> np.ndarray:
    """`frames` frames of 20 ms of a 200 Hz tone (4 whole periods each, so all frames are equally loud)."""
    t = np.arange(frames * FRAME) / RATE
    return (level * np.sin(2 * np.pi * 200 * t)).astype(np.float32)


def test_quiet_tail_is_cut_faded_and_replaced_by_80_ms_of_zeros() -> None:
    speech, tail = tone(10, 0.5), tone(7, 0.5 * 10 ** (-36 / 20))
    ended = end_on_pause(np.concatenate([speech, tail]), RATE)
    assert ended.dtype == np.float32
    assert ended.size == speech.size + PAUSE
    np.testing.assert_array_equal(ended[: 9 * FRAME], speech[: 9 * FRAME])
    faded = ended[9 * FRAME : 10 * FRAME]
    expected = speech[9 * FRAME :] * np.linspace(1, 0, FRAME)
    # The ramp is rounded to float32 and so is the product: 2^-24 each.
    np.testing.assert_allclose(faded, expected, rtol=0, atol=2**-23)
    assert not ended[speech.size - 1 :].any()


def test_a_tail_34_db_down_is_kept() -> None:
    wav = np.concatenate([tone(10, 0.5), tone(7, 0.5 * 10 ** (-34 / 20))])
    assert end_on_pause(wav, RATE).size == wav.size + PAUSE


def test_a_quiet_gap_in_the_middle_is_kept() -> None:
    wav = np.concatenate([tone(5, 0.5), np.zeros(9 * FRAME, np.float32), tone(1, 0.5)])
    assert end_on_pause(wav, RATE).size == wav.size + PAUSE


def test_samples_after_the_last_whole_frame_are_dropped() -> None:
    wav = np.concatenate([tone(3, 0.5), np.full(FRAME - 1, 0.9, np.float32)])
    assert end_on_pause(wav, RATE).size == 3 * FRAME + PAUSE


def test_silence_and_dc_are_kept_whole() -> None:
    for level in (0.0, 0.7):
        wav = np.full(4 * FRAME, level, np.float32)
        assert end_on_pause(wav, RATE).size == wav.size + PAUSE


def test_less_than_a_frame_comes_back_unchanged() -> None:
    wav = np.full(FRAME - 1, 0.5, np.float32)
    ended = end_on_pause(wav, RATE)
    np.testing.assert_array_equal(ended, wav)
    assert not np.shares_memory(ended, wav)


def test_ending_does_not_change_its_argument() -> None:
    wav = tone(5, 0.5)
    before = wav.copy()
    end_on_pause(wav, RATE)
    np.testing.assert_array_equal(wav, before)


def test_an_overflowing_level_is_an_error() -> None:
    with pytest.raises(AudioError, match="too loud"):
        end_on_pause(np.full(FRAME, 3e38, np.float32), RATE)


def test_prepare_resamples_then_ends(rng: np.random.Generator) -> None:
    wav = (0.2 * rng.standard_normal(44100)).astype(np.float32)
    np.testing.assert_array_equal(prepare_prompt(wav, 44100, RATE), end_on_pause(resample_poly(wav, RATE, 44100), RATE))
    np.testing.assert_array_equal(prepare_prompt(wav, RATE, RATE), end_on_pause(wav, RATE))


@pytest.mark.parametrize(("size", "rate"), [(0, 24000), (1, 24000), (479, 24000), (1, 44100), (800, 44100)])
def test_prepare_rejects_less_than_20_ms(size: int, rate: int) -> None:
    with pytest.raises(AudioError, match="too short"):
        prepare_prompt(np.full(size, 0.5, np.float32), rate, RATE)


def test_prepare_warns_about_silence_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert prepare_prompt(np.zeros(FRAME, np.float32), RATE, RATE).size == FRAME + PAUSE
    assert "silent" in caplog.text


def test_prepare_rejects_an_impossible_rate() -> None:
    with pytest.raises(AudioError):
        prepare_prompt(np.ones(1000, np.float32), 0, RATE)


def test_arrays_of_one_channel_become_1_d_float32(rng: np.random.Generator) -> None:
    x = rng.uniform(-1, 1, 100)
    for array in (x, x.astype(np.float32), x[None], x.astype(np.float32)[None]):
        mono = as_prompt_array(array)
        assert mono.dtype == np.float32
        assert mono.flags.c_contiguous
        np.testing.assert_array_equal(mono, x.astype(np.float32))
        assert not np.shares_memory(mono, array)


def test_channels_are_averaged(rng: np.random.Generator) -> None:
    x = rng.uniform(-1, 1, (6, 100)).astype(np.float32)
    # Six float32 sums of values below 1 and a division: 7 x 2^-24.
    np.testing.assert_allclose(as_prompt_array(x), x.astype(np.float64).mean(axis=0), rtol=0, atol=7 * 2**-24)


def test_int16_is_scaled() -> None:
    x = np.array([[-32768, 0, 16384]], dtype=np.int16)
    np.testing.assert_array_equal(as_prompt_array(x), [-1.0, 0.0, 0.5])


def test_anything_with_an_array_view_is_accepted() -> None:
    class Tensor:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.full((1, 8), 0.25, dtype=np.float32)

    np.testing.assert_array_equal(as_prompt_array(Tensor()), np.full(8, 0.25))


def test_an_array_view_that_fails_is_an_audio_error() -> None:
    class OnAnotherDevice:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            raise TypeError("can't convert a device tensor to numpy")

    with pytest.raises(AudioError, match="main memory"):
        as_prompt_array(OnAnotherDevice())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "path or an array"),
        ([0.0, 0.1], "path or an array"),
        (b"RIFF", "path or an array"),
        (np.zeros(4, np.int32), "int32"),
        (np.zeros(4, np.uint8), "uint8"),
        (np.zeros(4, bool), "bool"),
        (np.zeros(4, np.complex64), "complex64"),
        (np.array(["a"]), "floats"),
        (np.float32(0.5), "shape"),
        (np.zeros((1, 1, 4), np.float32), "shape"),
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((1, 0), np.float32), "no samples"),
        (np.zeros((0, 5), np.float32), "no samples"),
        (np.zeros((65, 100), np.float32), "transposed"),
        (np.array([0, np.nan], np.float32), "NaN or infinite"),
        (np.array([0, -np.inf]), "NaN or infinite"),
        (np.array([0, 1e300]), "NaN or infinite"),
        (np.full((2, 2), 3e38, np.float32), "NaN or infinite"),
    ],
)
def test_an_unusable_prompt_is_named(wrong: object, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        as_prompt_array(wrong)
