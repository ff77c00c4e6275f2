"""Synthetic checkpoints: complete, reproducible, without a parameter that could be forgotten unseen."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from pockettts_fast.config import config_from_dict, load_config
from pockettts_fast.errors import ConfigError
from pockettts_fast.safetensors_file import open_checkpoint
from pockettts_fast.testing import (
    make_sentencepiece_model,
    make_tokenizer_json,
    random_weights,
    save_weights,
    synthetic_prompt,
    tiny_config,
    write_checkpoint,
)
from pockettts_fast.testing_vocabulary import vocabulary
from pockettts_fast.weight_names import expected_tensors
from pockettts_fast.weights import load_tensors

ENGLISH = (
    "The quick brown fox jumps over the lazy dog, and then it sleeps under a large tree. Hello world, I am a "
    "small computer. People often ask me where the new road leads, but nobody in our town knows the answer."
)
SWITCHES = [
    {},
    {"flow_type": "flow_matching", "num_kv_heads": 1},
    {"flow_type": "drifting", "attn_dim": 32, "rank": 8},
    {"flow_type": "pointwise", "z_dim": 12, "separate_decoder": True, "inner_dim": 24},
    {"n_residual_layers": 2, "insert_bos_before_voice": False, "dim_feedforward": 40},
]


def tiny(**switches):
    return config_from_dict(tiny_config(**switches), "test")


@pytest.mark.parametrize("switches", SWITCHES)
def test_weights_are_complete_finite_and_nowhere_trivial(switches):
    config = tiny(**switches)
    weights = random_weights(config, 1)
    assert {name: values.shape for name, values in weights.items()} == expected_tensors(config)
    for name, values in weights.items():
        assert values.dtype == np.float32
        assert np.isfinite(values).all(), name
        assert np.all(values != 0) or np.mean(values == 0) < 1e-3, name
        if values.size > 1:
            assert values.std() > 0, name
        if re.search(r"norm\d?\.weight|alpha|in_ln\.weight", name):
            assert 0.03 < np.abs(values - 1).max() < 0.5, name


def test_a_tiny_model_is_tiny():
    for switches in SWITCHES:
        assert sum(values.size for values in random_weights(tiny(**switches), 1).values()) < 100_000


def test_weights_depend_on_seed_and_name_alone():
    config = tiny()
    weights, again, other = random_weights(config, 1), random_weights(config, 1), random_weights(config, -2)
    for name, values in weights.items():
        np.testing.assert_array_equal(values, again[name])
        # Calibrated, not drawn.
        assert name == "flow_lm.out_eos.bias" or not np.array_equal(values, other[name]), name
    deeper = random_weights(tiny(num_kv_heads=None, flow_depth=3), 1)
    name = "flow_lm.transformer.layers.0.linear1.weight"
    np.testing.assert_array_equal(weights[name], deeper[name])


def test_the_end_of_speech_can_be_made_rare_or_impossible():
    config = tiny()
    biases = [random_weights(config, 1, eos_after=frames)["flow_lm.out_eos.bias"][0] for frames in (5, 50, None)]
    assert biases == sorted(biases, reverse=True)
    assert biases[2] < config.default_eos_threshold - 30
    with pytest.raises(ConfigError, match="eos_after"):
        random_weights(config, 1, eos_after=1.0)


@pytest.mark.parametrize("n_bins", [34, 64, 256, 1000, 4000, 9000])
def test_a_vocabulary_has_exactly_the_pieces_asked_for(n_bins, tmp_path):
    pieces = [piece for piece, _ in vocabulary(n_bins)]
    assert len(set(pieces)) == len(pieces) == n_bins
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(make_tokenizer_json(n_bins, tmp_path / "t.json")))
    assert tokenizer.get_vocab_size() == n_bins
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor()
    processor.load(str(make_sentencepiece_model(n_bins, tmp_path / "t.model")))
    assert processor.vocab_size() == n_bins
    assert processor.encode(ENGLISH, out_type=int) == tokenizer.encode(ENGLISH).ids


def test_a_vocabulary_that_cannot_hold_the_letters_is_refused():
    with pytest.raises(ConfigError, match="at least 34"):
        vocabulary(33)


def test_english_takes_about_three_tokens_for_two_words(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(make_tokenizer_json(4000, tmp_path / "t.json")))
    encoding = tokenizer.encode(ENGLISH)
    assert 1.1 < len(encoding.ids) / len(ENGLISH.split()) < 1.9
    assert tokenizer.decode(encoding.ids) == ENGLISH
    assert 0 not in encoding.ids


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_checkpoint_is_complete_and_addressed_absolutely(tmp_path, dtype):
    path = write_checkpoint(tmp_path / "folder with spaces", tiny_config(), 1, dtype, tokenizer="sentencepiece")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert Path(document["weights_path"]).is_absolute()
    assert Path(document["flow_lm"]["lookup_table"]["tokenizer_path"]).is_file()
    with load_tensors(load_config(path)) as weights:
        assert len(weights) == len(expected_tensors(load_config(path)))


def test_a_released_configuration_keeps_its_facts(tmp_path):
    path = write_checkpoint(tmp_path, "english_2m_2026-10", 1, "float16")
    config = load_config(path)
    assert config.default_eos_threshold == -1.0
    assert config.flow_lm.lookup_table.n_bins == 4000
    assert config.weights_path_without_voice_cloning is None
    with load_tensors(config) as weights:
        assert weights.has_voice_cloning


def test_writing_a_checkpoint_leaves_the_given_configuration_alone(tmp_path):
    document = tiny_config()
    write_checkpoint(tmp_path, document, 1)
    assert document == tiny_config()


def test_unknown_arguments_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="float8"):
        write_checkpoint(tmp_path, tiny_config(), 1, "float8")
    with pytest.raises(ConfigError, match="tokenizer"):
        write_checkpoint(tmp_path, tiny_config(), 1, tokenizer="words")
    with pytest.raises(ConfigError, match="klingon"):
        write_checkpoint(tmp_path, "klingon", 1)


def test_written_weights_are_valid_for_the_safetensors_library(tmp_path):
    import safetensors

    weights = random_weights(tiny(), 1)
    save_weights(weights, tmp_path / "m.safetensors")
    with safetensors.safe_open(tmp_path / "m.safetensors", framework="numpy") as file:
        assert set(file.keys()) == set(weights)
        for name, values in weights.items():
            np.testing.assert_array_equal(file.get_tensor(name), values)


def test_bfloat16_rounds_to_nearest_even(tmp_path):
    # Around 1 the spacing is 2**-7: below, at and above the middle, and the middle above an odd neighbour.
    values = np.array([1 + 2.0**-9, 1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-12, 1 + 3 * 2.0**-8], np.float32)
    save_weights({"x": values}, tmp_path / "m.safetensors", "bfloat16")
    got = open_checkpoint(tmp_path / "m.safetensors")["x"].to_float32()
    np.testing.assert_array_equal(got, [1, 1, 1 + 2.0**-7, 1 + 2.0**-6])


@pytest.mark.parametrize("sample_rate", [4800, 16000, 24000])
def test_a_prompt_is_voice_like(sample_rate):
    seed = zlib.crc32(b"a prompt")
    prompt = synthetic_prompt(5.0, sample_rate, seed)
    assert prompt.dtype == np.float32
    assert prompt.shape == (5 * sample_rate,)
    assert 0.05 < prompt.std() < 0.3
    assert np.abs(prompt).max() <= 1.0
    frames = prompt[: len(prompt) // 100 * 100].reshape(-1, sample_rate // 50)
    levels = np.sqrt(np.square(frames).mean(axis=1))
    assert 0.05 < np.mean(levels < 1e-3) < 0.6  # pauses
    np.testing.assert_array_equal(prompt, synthetic_prompt(5.0, sample_rate, seed))
    assert not np.array_equal(prompt, synthetic_prompt(5.0, sample_rate, seed + 1))


def test_the_shortest_prompts_exist():
    assert synthetic_prompt(0.0, 24000, 1).shape == (0,)
    assert synthetic_prompt(1 / 24000, 24000, 1).shape == (1,)


def test_the_demo_in_the_package_is_complete_and_small():
    from pockettts_fast.voice_state import check_model_state, read_model_state

    folder = Path(__file__).resolve().parent.parent / "pockettts_fast" / "demo"
    config = load_config(folder / "demo.yaml")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_000_000
    with load_tensors(config) as weights:
        assert len(weights) == len(expected_tensors(config))
    state = read_model_state(folder / "voices" / "demo.safetensors")
    assert check_model_state(state, config) == 30
