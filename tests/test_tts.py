"""The public class: what it takes and refuses, and that it speaks by the rules, on tiny models."""

import importlib.util
import logging

import numpy as np
import pytest

import tiny_models
from pockettts_fast import TTSModel, _core
from pockettts_fast.errors import (
    ConfigError,
    DependencyError,
    MissingFileError,
    TextError,
    VoiceError,
)
from reference.generation import speak

TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it would do so again and again."
LONG = " ".join([TEXT, "One more sentence, please!", "Version 3.5 costs less; is it not better? " * 4, TEXT])


# --- loading: arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"language": "demo", "config": "x.yaml"}, ConfigError, "Both language and config"),
        ({"language": "englsh"}, ConfigError, "did you mean 'english'"),
        ({"language": "englsh"}, FileNotFoundError, "available languages are demo, dutch"),
        ({"language": 5}, ConfigError, "no language 5"),
        ({"language": ""}, ConfigError, "no language ''"),
        ({"config": "english"}, ConfigError, "pass it as language"),
        ({"config": "model.safetensors"}, ConfigError, "must end with .yaml"),
        ({"config": "/nowhere/model.yaml"}, MissingFileError, "does not exist"),
        ({"config": 5}, ConfigError, "must end with .yaml"),
        ({"precision": "int4"}, ConfigError, "choose one of float32, int8, int8-bf16"),
        ({"precision": None}, ConfigError, "choose one of"),
        ({"threads": 0}, ConfigError, "threads is 0: give a whole number from 1 to 1024"),
        ({"threads": -1}, ConfigError, "threads is -1"),
        ({"threads": 10**30}, ConfigError, "1 to 1024"),
        ({"threads": 1.5}, ConfigError, "threads is 1.5"),
        ({"threads": "2"}, ConfigError, "threads is '2'"),
        ({"threads": True}, ConfigError, "threads is True"),
        ({"sampler_decode_steps": 0}, ConfigError, "sampler_decode_steps is 0"),
        ({"sampler_decode_steps": 2.0}, ConfigError, "sampler_decode_steps is 2.0"),
        ({"lsd_decode_steps": 0}, ConfigError, "sampler_decode_steps is 0"),
        ({"temp": float("nan")}, ConfigError, "temp is nan"),
        ({"temp": float("inf")}, ConfigError, "finite"),
        ({"temp": -0.1}, ConfigError, "at least 0"),
        ({"temp": "0.3"}, ConfigError, "temp is '0.3'"),
        ({"temp": True}, ConfigError, "temp is True"),
        ({"noise_clamp": 0}, ConfigError, "above 0"),
        ({"noise_clamp": -1.0}, ConfigError, "above 0"),
        ({"noise_clamp": float("nan")}, ConfigError, "noise_clamp is nan"),
        ({"eos_threshold": float("nan")}, ConfigError, "eos_threshold is nan"),
        ({"eos_threshold": []}, ConfigError, r"eos_threshold is \[\]"),
        ({"checkpoint": "/nowhere/step.pt"}, MissingFileError, "does not exist"),
    ],
)
def test_an_unusable_argument_is_named(arguments, error, message):
    if not {"language", "config"} & set(arguments):
        arguments = {"language": "demo"} | arguments
    with pytest.raises(error, match=message) as caught:
        TTSModel.load_model(**arguments)
    assert "\n" not in str(caught.value)


def test_a_training_checkpoint_without_torch_says_what_to_install(tmp_path):
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("torch is installed")
    (tmp_path / "step.pt").write_bytes(b"")
    with pytest.raises(DependencyError, match="pip install torch"):
        TTSModel.load_model("demo", checkpoint=tmp_path / "step.pt")


def test_the_defaults_come_from_the_configuration(checkpoints):
    path = checkpoints("plain", default_temperature=0.7, default_eos_threshold=-1.0)
    model = TTSModel.load_model(config=path)
    assert (model.temp, model.eos_threshold, model.sampler_decode_steps) == (0.7, -1.0, 1)
    assert model.noise_clamp is None
    given = TTSModel.load_model(config=str(path), temp=0, eos_threshold=2, sampler_decode_steps=3, noise_clamp=1)
    assert (given.temp, given.eos_threshold, given.sampler_decode_steps, given.noise_clamp) == (0, 2, 3, 1)


def test_the_deprecated_name_of_the_steps_works_with_a_warning(checkpoints, caplog):
    model = TTSModel.load_model(config=checkpoints(), lsd_decode_steps=4)
    assert model.sampler_decode_steps == 4
    assert any("lsd_decode_steps is deprecated" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("arguments", "precision"),
    [
        ({"quantize": True}, "int8"),
        ({"precision": "int8"}, "int8"),
        ({"quantize": True, "precision": "int8-bf16"}, "int8-bf16"),
    ],
)
def test_lower_precisions_are_chosen_by_name_or_by_quantize(checkpoints, arguments, precision):
    model = TTSModel.load_model(config=checkpoints(), **arguments)
    assert model.precision == precision


def test_facts_of_a_model(checkpoints):
    model = TTSModel.load_model(config=checkpoints(), threads=3)
    assert model.sample_rate == 4800
    assert model.device == "cpu"
    assert model.threads == 3
    assert model.precision == "float32"
    assert model.has_voice_cloning is True
    assert model.voices == ()
    assert model.notice is None
    assert model.eval() is model
    assert model.to("cpu") is model
    assert model.to("cpu:0") is model
    with pytest.raises(ConfigError, match="cuda"):
        model.to("cuda")
    assert TTSModel.load_model(config=checkpoints()).threads == _core.usable_cores()


def test_the_demo_runs_and_says_what_it_is(caplog):
    model = TTSModel.load_model(language="demo")
    assert "random weights" in model.notice
    assert any("random weights" in message for message in caplog.messages)
    assert model.voices == ("demo",)
    audio = model.generate_audio(model.get_state_for_audio_prompt("demo"), "Hello.", seed=1)
    assert np.isfinite(audio).all()
    assert len(audio) > 6 * 1920


# --- speech ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_speech_is_the_loop_over_frames_bit_for_bit(name, speakers):
    model, voice = speakers(name)
    expected = speak(model, voice, LONG, seed=5)
    stream = model.generate_audio_stream(voice, LONG, seed=5)
    audio = np.concatenate(list(stream))
    np.testing.assert_array_equal(audio, np.concatenate([chunk.audio for chunk in expected]))
    assert stream.report.chunks == len(expected) > 1
    assert stream.report.frames == sum(len(chunk.latents) for chunk in expected)
    assert stream.report.reached_limit == any(chunk.reached_limit for chunk in expected)


@pytest.mark.parametrize("frames_after_eos", [0, 1, 9])
def test_frames_after_eos_reach_every_chunk(frames_after_eos, speakers):
    model, voice = speakers("plain", eos_after=8.0)
    expected = speak(model, voice, LONG, 2, frames_after_eos)
    audio = model.generate_audio(voice, LONG, frames_after_eos=frames_after_eos, seed=2)
    np.testing.assert_array_equal(audio, np.concatenate([chunk.audio for chunk in expected]))
    assert not all(chunk.reached_limit for chunk in expected)


def test_the_configuration_may_recommend_frames_after_eos(speakers):
    model, voice = speakers("plain", eos_after=8.0, model_recommended_frames_after_eos=7)
    expected = np.concatenate([chunk.audio for chunk in speak(model, voice, LONG, 2, 7)])
    np.testing.assert_array_equal(model.generate_audio(voice, LONG, seed=2), expected)
    given = np.concatenate([chunk.audio for chunk in speak(model, voice, LONG, 2, 0)])
    np.testing.assert_array_equal(model.generate_audio(voice, LONG, frames_after_eos=0, seed=2), given)


@pytest.mark.parametrize(
    "arguments",
    [{"temp": 0.0}, {"temp": 1.0}, {"temp": 0.9, "noise_clamp": 0.5}, {"sampler_decode_steps": 4}],
)
def test_sampling_arguments_reach_the_speech(arguments, checkpoints, speakers):
    default, voice = speakers()
    model = TTSModel.load_model(config=checkpoints(), **arguments)
    audio = model.generate_audio(voice, TEXT, seed=1)
    np.testing.assert_array_equal(audio, np.concatenate([c.audio for c in speak(model, voice, TEXT, 1)]))
    assert not np.array_equal(audio, default.generate_audio(voice, TEXT, seed=1))


def test_at_temperature_zero_the_seed_does_not_matter(checkpoints, speakers):
    model = TTSModel.load_model(config=checkpoints(), temp=0)
    voice = speakers()[1]
    np.testing.assert_array_equal(model.generate_audio(voice, TEXT, seed=1), model.generate_audio(voice, TEXT, seed=2))


def test_a_seed_decides_and_no_seed_is_a_reported_one(speakers):
    model, voice = speakers()
    audio = model.generate_audio(voice, TEXT, seed=1)
    np.testing.assert_array_equal(audio, model.generate_audio(voice, TEXT, seed=1))
    assert not np.array_equal(audio, model.generate_audio(voice, TEXT, seed=2))
    stream = model.generate_audio_stream(voice, TEXT)
    random = np.concatenate(list(stream))
    assert not np.array_equal(random, np.concatenate(list(model.generate_audio_stream(voice, TEXT))))
    np.testing.assert_array_equal(random, model.generate_audio(voice, TEXT, seed=stream.report.seed))


def test_a_threshold_that_is_never_reached_gives_the_longest_speech_and_says_so(checkpoints, speakers, caplog):
    voice = speakers()[1]
    model = TTSModel.load_model(config=checkpoints(), eos_threshold=1e9)
    stream = model.generate_audio_stream(voice, TEXT, seed=1)
    with caplog.at_level(logging.WARNING):
        frames = sum(map(len, stream)) // 384
    (chunk,) = model.split_text(TEXT)
    assert frames == int(np.ceil((len(chunk.token_ids) / 3 + 2) * 12.5))
    assert stream.report.reached_limit
    assert any(f"{frames} frames" in message for message in caplog.messages)
    shortest = TTSModel.load_model(config=checkpoints(), eos_threshold=-1e9)
    assert len(shortest.generate_audio(voice, TEXT, frames_after_eos=0, seed=1)) == 6 * 384


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text_to_generate": ""}, TextError, "empty"),
        ({"text_to_generate": " \n\t "}, TextError, "empty"),
        ({"text_to_generate": None}, TextError, "NoneType"),
        ({"text_to_generate": b"Hello"}, TextError, "bytes"),
        ({"text_to_generate": "a\ud800b"}, TextError, "surrogate"),
        ({"max_tokens": 0}, TextError, "max_tokens is 0"),
        ({"max_tokens": True}, TextError, "max_tokens is True"),
        ({"max_tokens": 1.5}, TextError, "max_tokens is 1.5"),
        ({"frames_after_eos": -1}, ConfigError, "frames_after_eos is -1"),
        ({"frames_after_eos": 1.5}, ConfigError, "frames_after_eos is 1.5"),
        ({"frames_after_eos": True}, ConfigError, "frames_after_eos is True"),
        ({"seed": 2**64}, ValueError, "seed"),
        ({"seed": -(2**63) - 1}, ValueError, "seed"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"seed": "1"}, TypeError, "seed"),
        ({"model_state": None}, VoiceError, "mapping"),
        ({"model_state": "alba"}, VoiceError, "mapping"),
        ({"model_state": {}}, VoiceError, "layers"),
        ({"model_state": {"transformer.layers.0.self_attn": 3}}, VoiceError, "mapping"),
    ],
)
def test_an_unusable_argument_of_speech_is_an_error_of_the_call_itself(arguments, error, message, speakers):
    model, voice = speakers()
    arguments = {"model_state": voice, "text_to_generate": TEXT} | arguments
    with pytest.raises(error, match=message):
        model.generate_audio_stream(**arguments)
    with pytest.raises(error, match=message):
        model.generate_audio(**arguments)


def test_what_cannot_stop_a_stream_is_refused(speakers):
    model, voice = speakers()
    with pytest.raises(ConfigError, match="stop is True: give a threading"):
        model.generate_audio_stream(voice, TEXT, stop=True)


@pytest.mark.parametrize("seed", [0, -(2**63), 2**64 - 1, np.int64(3)])
def test_the_whole_range_of_seeds_is_legal(seed, speakers):
    model, voice = speakers("plain", eos_after=8.0)
    assert len(model.generate_audio(voice, "Hi.", seed=seed)) > 0


def test_max_tokens_decides_how_much_is_spoken_at_once(speakers):
    model, voice = speakers()
    few, many = (model.generate_audio_stream(voice, LONG, max_tokens=n, seed=1) for n in (20, 1000))
    for stream in (few, many):
        list(stream)
    assert many.report.chunks == 1
    assert few.report.chunks == len(model.split_text(LONG, 20)) > 5
