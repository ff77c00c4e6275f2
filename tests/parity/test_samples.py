"""Whole utterances: the same samples as the original for the same seed, tiny and at full size."""

import numpy as np
import pytest

import tiny_models
from pockettts_fast.testing import write_checkpoint

pytest.importorskip("pocket_tts")
from parity.pairs import Pair, check_states

pytestmark = pytest.mark.parity

SHORT = "Hello there."
TWO = "It is late. The river, which nobody saw, was 3.5 miles away; was it not?"
LONG = (
    "Nobody knows why the quick brown fox would jump over the lazy dog, again and again, on a day like this. "
    "Does it matter? It costs $12.99, which is 4.2% less; not bad at all! One more: the last of them all."
)


# At temperature 0 with a clamp the original divides by zero.
@pytest.mark.parametrize(
    ("temp", "noise_clamp"), [(0.0, None), (0.3, None), (0.3, 0.2), (0.3, 0.8), (1.0, None), (1.0, 0.8)]
)
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("flow_type", tiny_models.FLOW_TYPES)
def test_every_way_to_sample(flow_type, steps, temp, noise_clamp, pair):
    arguments = {"temp": temp, "sampler_decode_steps": steps, "noise_clamp": noise_clamp}
    both = pair(arguments=arguments, flow_type=flow_type)
    both.check_speech(both.voices(), SHORT, seed=1)


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_every_feature_of_the_schema(name, pair):
    both = pair(name)
    both.check_speech(both.voices(), TWO, seed=2)


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**64 - 1, -(2**63)])
def test_every_kind_of_seed(seed, pair):
    both = pair("grouped")
    both.check_speech(both.voices(), SHORT, seed=seed)


@pytest.mark.parametrize("max_tokens", [10, 25, 50])
@pytest.mark.parametrize("frames_after_eos", [None, 0, 3])
def test_several_chunks(max_tokens, frames_after_eos, pair):
    both = pair(seed=5)
    arguments = {"max_tokens": max_tokens, "frames_after_eos": frames_after_eos}
    both.check_speech(both.voices(), LONG, seed=3, **arguments)
    assert len(both.ours.split_text(LONG, max_tokens)) > 1


@pytest.mark.parametrize("recommended", [None, 0, 6])
def test_the_frames_after_eos_of_a_configuration(recommended, pair):
    both = pair(model_recommended_frames_after_eos=recommended)
    both.check_speech(both.voices(), SHORT, seed=4)
    both.check_speech(both.voices(), TWO, seed=4, frames_after_eos=1)


@pytest.mark.parametrize(("eos_after", "threshold"), [(None, None), (3.0, None), (12.0, -3.0), (12.0, -1e9)])
def test_early_late_and_no_ends(eos_after, threshold, pair):
    both = pair(eos_after=eos_after, arguments={"eos_threshold": threshold})
    audio = both.check_speech(both.voices(), SHORT, seed=5)
    assert len(audio) % 384 == 0


def test_a_voice_that_is_advanced_over_several_chunks(pair):
    both = pair(seed=6)
    theirs, ours = both.voices()
    for seed in (1, 2):
        both.check_speech((theirs, ours), LONG, seed, copy_state=False, max_tokens=25)
        check_states(theirs, ours)


def test_a_voice_is_not_changed_by_speaking_with_a_copy(pair):
    both = pair()
    voices = both.voices()
    first = both.check_speech(voices, SHORT, seed=1)
    np.testing.assert_array_equal(both.check_speech(voices, SHORT, seed=1), first)


@pytest.mark.parametrize("tokenizer", ["json", "sentencepiece"])
def test_both_kinds_of_tokenizers(tokenizer, tmp_path):
    document = tiny_models.document("projected", n_bins=1000)
    both = Pair(write_checkpoint(tmp_path, document, 8, eos_after=12.0, tokenizer=tokenizer))
    both.check_speech(both.voices(), "Où étais-tu ? À l'école — « déjà » ; 3,5 km…", seed=6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_checkpoints(dtype, tmp_path):
    both = Pair(write_checkpoint(tmp_path, tiny_models.document("grouped"), 9, dtype, eos_after=12.0))
    both.check_speech(both.voices(), TWO, seed=7)


@pytest.mark.parametrize(
    "options",
    [
        {"pad_with_spaces_for_short_inputs": True},
        {"remove_semicolons": True},
        {"append_terminal_punctuation": False, "capitalize_first_letter": False},
        {"replace_characters": {"'": "", "r": "w"}},
    ],
)
def test_how_a_model_wants_its_text(options, tmp_path):
    both = Pair(write_checkpoint(tmp_path, tiny_models.document("plain", **options), 1, eos_after=12.0))
    for text in ("it's here; or there", TWO):
        both.check_speech(both.voices(), text, seed=8)


def test_twenty_four_layers(pair):
    both = pair(num_layers=24, d_model=96, num_heads=6, flow_depth=6)
    both.check_speech(both.voices(), TWO, seed=9)


def test_a_long_prompt_and_a_long_text(pair):
    both = pair("separate_decoder", eos_after=None)
    both.check_speech(both.voices(seconds=60.0), LONG, seed=10)


@pytest.mark.parametrize(
    "language",
    [
        "english_2m_2026-10",
        "english_7m_2026-10",
        "english_18m_2026-10",
        "english_drifting_26-09",
        "english_2026-01",
        "english",
    ],
)
def test_released_architectures_at_full_size(language, released):
    both = released(language)
    both.check_speech(both.voices(), "Hi.", seed=1)
