"""The language-model stage against its formula in float64, for every feature of the schema."""

import numpy as np
import pytest

import tiny_models
from pockettts_fast.voice_state import attention_module, check_model_state
from reference import backbone
from reference.closeness import assert_close
from reference.formulas import in_precision


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_an_utterance_is_as_close_to_the_formula_as_float32_allows(name, steps, rng):
    model = tiny_models.named(name, steps=steps)
    given = tiny_models.inputs(model, rng)
    state = tiny_models.start(model, given)
    latents, end = tiny_models.speak(model, state, given)
    exact, single = (
        backbone.speak(
            in_precision(model.weights, dtype),
            model.config,
            given.prompt,
            given.ids,
            given.latents,
            given.noise,
            steps,
        )
        for dtype in (np.float64, np.float32)
    )
    assert_close(latents, exact.latents, single.latents)
    assert_close(end, exact.end, single.end)
    for ours, cache, cache32 in zip(state.caches(), exact.caches, single.caches, strict=True):
        assert_close(ours, cache, cache32)


def test_a_state_survives_the_exchange_format_bit_for_bit(rng):
    model = tiny_models.named("grouped")
    given = tiny_models.inputs(model, rng)
    state = tiny_models.start(model, given)
    voice = model.flow_lm.to_model_state(state)
    assert check_model_state(voice, model.config) == state.position
    assert voice[attention_module(0)]["cache"].shape == (2, 1, state.position, 2, 8)
    loaded = model.flow_lm.state_from_voice(voice, 3)
    assert loaded.position == state.position
    for one, other in zip(tiny_models.speak(model, state, given), tiny_models.speak(model, loaded, given), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_prompt_longer_than_one_prefill_call_changes_no_bit(rng, monkeypatch):
    model = tiny_models.named("plain")
    given = tiny_models.inputs(model, rng, prompt=70, ids=70, frames=3)
    whole = tiny_models.start(model, given)
    monkeypatch.setattr("pockettts_fast.flow_lm._PREFILL_ROWS", 16)
    pieces = tiny_models.start(model, given)
    assert pieces.position == whole.position == 141
    for one, other in zip(whole.caches(), pieces.caches(), strict=True):
        np.testing.assert_array_equal(one, other)
