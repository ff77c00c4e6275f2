"""How far int8 and bfloat16 may be from float32: bounds with their reasons, on models that speak 300 frames.

One int8 product. A row is rounded to steps of max / 127, which is an error of max / (127 sqrt(12)) each,
or 4 / 440 = 0.9 % of the row's RMS: the largest of a thousand normal values is below 4 deviations. The random
weights are uniform (max = sqrt(3) RMS), so they add 0.4 %. Together 1 %.

One bfloat16 product. An 8-bit significand is off by 2^-8 at most, 2^-7 / sqrt(12) * 0.74 in the mean over the
binade, for both operands: 0.235 %.

Errors of several products in sequence add in squares.
"""

import functools
import math

import numpy as np
import pytest

import precise_models
import tiny_models
from pockettts_fast.config import Config, config_from_dict, language_config_path, load_config
from pockettts_fast.testing import random_weights
from pockettts_fast.testing_quality import (
    LatentQuality,
    SoundQuality,
    compare_codecs,
    compare_language_models,
    compare_sounds,
    decode,
    random_utterance,
    speak,
    with_outliers,
    with_silence,
)

FRAMES = 300
FULL_SIZE = pytest.param("english", marks=pytest.mark.slow)
MODELS = ["plain", "grouped", "projected", "flow_matching", "english_2m_2026-10", FULL_SIZE]

INT8_PRODUCT = 0.010
# At full weight a latent has behind it: the two products of a layer's two updates (the residual adds the
# layers' errors in squares, each with its share of the sum) and two of a block of the flow head. The logit
# reads before the flow head, with weights of norm 1.5.
SEQUENCE = math.sqrt(6)
EOS_NORM = 1.5
# The worst of 300 frames: three deviations of a sum of a few large errors.
WORST = 3.0

# A row of weights with 1 % of its entries 30 times larger: max / RMS is 30 sqrt(3) / sqrt(10) = 16 instead of
# sqrt(3), so 3.7 % a product. A row of activations with such a channel has a step 30 * 2.5 / 127: 17 % of the
# other channels' RMS, in the half of the products that read a norm.
OUTLIER_WEIGHTS = math.hypot(INT8_PRODUCT, 0.037)
OUTLIER_ACTIVATIONS = math.hypot(INT8_PRODUCT, 0.17 / math.sqrt(2))

BF16_PRODUCT = math.sqrt(2) * 2.0**-7 / math.sqrt(12) * 0.74
SOUND_MARGIN_DB = 6.0  # a factor of 2: the last layers add more to a sample than to the mean over channels
FRAME_MARGIN_DB = 3.0


@functools.cache
def model(name: str) -> tuple[Config, dict[str, np.ndarray]]:
    if name in tiny_models.NAMES:
        config = config_from_dict(tiny_models.document(name), "test")
    else:
        config = load_config(language_config_path(name))
    return config, random_weights(config, 1)


@functools.cache
def latent_quality(name: str, in_weights: bool, in_activations: bool) -> LatentQuality:
    config, weights = model(name)
    if in_weights or in_activations:
        weights = with_outliers(weights, 2, in_weights=in_weights, in_activations=in_activations)
    exact, quantised = (
        precise_models.pack(config, weights, precision, "float32", threads=2).flow_lm
        for precision in ("float32", "int8")
    )
    return compare_language_models(exact, quantised, random_utterance(config, 5, frames=FRAMES))[0]


def codec_products(config: Config) -> int:
    """Matrix products one after the other in the decoder's convolutions; the transformer's count little."""
    seanet = config.mimi.decoding_seanet
    return 2 + len(seanet.ratios) * (1 + 2 * seanet.n_residual_layers)


def least_db(config: Config) -> float:
    return -20 * math.log10(BF16_PRODUCT * math.sqrt(codec_products(config))) - SOUND_MARGIN_DB


@functools.cache
def sound_quality(name: str) -> SoundQuality:
    config, weights = model(name)
    stages = [precise_models.pack(config, weights, "float32", codec, threads=2) for codec in ("float32", "bf16")]
    spoken, _ = speak(stages[0].flow_lm, random_utterance(config, 5, frames=FRAMES))
    return compare_codecs(stages[0].decoder, stages[1].decoder, spoken, config.mimi.sample_rate)


@pytest.mark.parametrize("name", MODELS)
def test_int8_latents_and_end_logits_stay_close_to_float32(name: str) -> None:
    quality = latent_quality(name, False, False)
    bound = INT8_PRODUCT * SEQUENCE
    assert quality.frames == FRAMES
    assert 1e-4 < quality.latent_error <= bound
    assert quality.worst_frame <= WORST * bound
    assert quality.eos_error <= EOS_NORM * bound
    assert quality.eos_worst <= WORST * EOS_NORM * bound
    assert quality.eos_error <= 0.05 * quality.eos_spread  # speech ends where it did, but for close calls


@pytest.mark.parametrize("name", MODELS)
def test_outlier_weights_cost_what_their_row_loses(name: str) -> None:
    quality, bound = latent_quality(name, True, False), OUTLIER_WEIGHTS * SEQUENCE
    assert latent_quality(name, False, False).latent_error < quality.latent_error <= bound
    assert quality.worst_frame <= WORST * bound
    assert quality.eos_error <= EOS_NORM * bound


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("in_weights", [False, True], ids=["activations", "both"])
def test_outlier_channels_make_int8_several_times_worse_and_no_more(name: str, in_weights: bool) -> None:
    # The known weakness of one scale a row: the model is the same in float32, and int8 hears it through the
    # step of the largest channel.
    quality = latent_quality(name, in_weights, True)
    bound = math.hypot(OUTLIER_ACTIVATIONS, OUTLIER_WEIGHTS if in_weights else 0) * SEQUENCE
    assert 2 * latent_quality(name, False, False).latent_error < quality.latent_error <= bound
    assert quality.worst_frame <= WORST * bound
    assert quality.eos_error <= EOS_NORM * bound


@pytest.mark.parametrize("name", [*MODELS, "separate_decoder", "deep_codec"])
def test_the_bf16_codec_has_the_signal_to_error_of_its_roundings(name: str) -> None:
    config, quality = model(name)[0], sound_quality(name)
    assert quality.frames == FRAMES
    assert least_db(config) <= quality.snr_db <= 60
    assert quality.worst_frame_db >= least_db(config) - FRAME_MARGIN_DB
    # Where the sound is quiet because large parts cancel, the error is that of the parts: not above the mean.
    assert quality.floor_db <= -least_db(config) + FRAME_MARGIN_DB


@pytest.mark.parametrize("name", MODELS)
def test_the_noise_of_the_bf16_codec_falls_with_the_signal(name: str) -> None:
    """Loud and quiet passages of a second in turn, the quiet ones 60 dB lower at the codec's input."""
    config, weights = model(name)
    weights = with_silence(weights)
    frame = np.arange(FRAMES)
    quiet = frame // 12 % 2 == 1
    inside = frame % 12 >= 4  # past the tail of the passage before
    rng = np.random.default_rng(7)
    latents = rng.standard_normal((FRAMES, config.latent_dim)) * np.where(quiet, 1e-3, 1.0)[:, None]
    latents = (latents / weights["flow_lm.emb_std"]).astype(np.float32)
    exact, rounded = (
        decode(precise_models.pack(config, weights, "float32", codec, threads=2).decoder, latents)
        for codec in ("float32", "bf16")
    )
    rate = config.mimi.sample_rate
    loud_part = compare_sounds(exact[~quiet & inside], rounded[~quiet & inside], rate)
    quiet_part = compare_sounds(exact[quiet & inside], rounded[quiet & inside], rate)
    assert loud_part.snr_db >= least_db(config)
    assert quiet_part.signal_db <= loud_part.signal_db - 20
    assert quiet_part.snr_db >= least_db(config) - FRAME_MARGIN_DB


def test_silence_is_silent_in_both_precisions() -> None:
    config, weights = model("plain")
    latents = np.zeros((20, config.latent_dim), np.float32)
    for codec in ("float32", "bf16"):
        stages = precise_models.pack(config, with_silence(weights), "float32", codec)
        assert not decode(stages.decoder, latents).any()


def test_outlier_channels_leave_the_float32_model_as_it_was() -> None:
    config, weights = model("plain")
    hard = with_outliers(weights, 2, in_weights=False)
    given = random_utterance(config, 5, frames=20)
    one, other = (
        speak(precise_models.pack(config, arrays, "float32", "float32").flow_lm, given)[0] for arrays in (weights, hard)
    )
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-4)
    norm, reader = (
        "flow_lm.transformer.layers.0.norm1.weight",
        "flow_lm.transformer.layers.0.self_attn.in_proj.weight",
    )
    large = hard[norm] != weights[norm]
    assert large.sum() == 1
    np.testing.assert_allclose(hard[norm][large], 30 * weights[norm][large], rtol=1e-6)
    np.testing.assert_allclose(hard[reader][:, large] * 30, weights[reader][:, large], rtol=1e-6)


def test_outlier_weights_are_thirty_times_larger_in_rows_of_the_same_norm() -> None:
    _, weights = model("plain")
    hard = with_outliers(weights, 2, in_activations=False)
    name = "flow_lm.transformer.layers.1.linear2.weight"
    np.testing.assert_allclose(np.linalg.norm(hard[name], axis=1), np.linalg.norm(weights[name], axis=1), rtol=1e-5)
    ratio = np.sort(np.abs(hard[name] / weights[name]), axis=1)
    np.testing.assert_allclose(ratio[:, -1] / ratio[:, 0], 30, rtol=1e-5)
    assert {key for key in weights if not np.array_equal(weights[key], hard[key])} == {
        key for key in weights if "flow_lm.transformer" in key and weights[key].ndim == 2
    }


def test_equal_sounds_have_no_error() -> None:
    sound = np.random.default_rng(0).standard_normal((4, 480)).astype(np.float32)
    quality = compare_sounds(sound, sound.copy(), 4800)
    assert quality.snr_db == quality.worst_frame_db == math.inf
    assert quality.floor_db == -math.inf
    louder = compare_sounds(sound, sound * np.float32(1.01), 4800)
    assert louder.snr_db == pytest.approx(40, abs=0.01)
