"""The codec stages against their formulas in float64, for every feature of the schema."""

import numpy as np
import pytest

import tiny_models
from pockettts_fast.testing import synthetic_prompt
from reference import codec
from reference.closeness import assert_close
from reference.formulas import in_precision


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_decoded_samples_are_as_close_to_the_formula_as_float32_allows(name, rng):
    model = tiny_models.named(name)
    latents = rng.standard_normal((23, model.config.latent_dim)).astype(np.float32)
    pcm = model.decoder.step([model.decoder.new_state()], [latents])[0]
    exact, single = (
        codec.decode(in_precision(model.weights, dtype), model.config, latents) for dtype in (np.float64, np.float32)
    )
    assert model.decoder.samples_per_frame == model.config.mimi.frame_size
    assert_close(pcm, exact, single)


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_an_encoded_prompt_is_as_close_to_the_formula_as_float32_allows(name):
    model = tiny_models.named(name)
    frame = model.config.mimi.frame_size
    pcm = synthetic_prompt(19.4 * frame / model.config.mimi.sample_rate, model.config.mimi.sample_rate, 3)
    latents = model.encoder.encode(pcm)
    exact, single = (
        codec.encode(in_precision(model.weights, dtype), model.config, pcm) for dtype in (np.float64, np.float32)
    )
    assert latents.shape == (20, model.config.mimi.conditioning_dim)
    assert_close(latents, exact, single)


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_the_frames_encoded_at_once_change_no_bit(at_once, monkeypatch, rng):
    model = tiny_models.named("plain")
    pcm = (0.1 * rng.standard_normal(30 * model.config.mimi.frame_size - 7)).astype(np.float32)
    whole = model.encoder.encode(pcm)
    monkeypatch.setattr("pockettts_fast.mimi._ENCODER_FRAMES", at_once)
    np.testing.assert_array_equal(model.encoder.encode(pcm), whole)


def test_one_sample_is_one_frame():
    model = tiny_models.named("plain")
    assert model.encoder.encode(np.ones(1, np.float32)).shape == (1, 32)
