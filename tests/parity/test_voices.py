"""Voices: recordings of many kinds through both, and saved states that cross over in both directions."""

import wave

import numpy as np
import pytest

from pockettts_fast import TTSModel
from pockettts_fast.config import load_config
from pockettts_fast.testing import random_weights, synthetic_prompt

torch = pytest.importorskip("torch")
pytest.importorskip("pocket_tts")
from pocket_tts import TTSModel as Upstream  # noqa: E402
from pocket_tts import export_model_state as upstream_export  # noqa: E402

from parity.pairs import Pair, check_states, snr_db  # noqa: E402  (needs the original)

pytestmark = pytest.mark.parity

TEXT = "It is late. The river, which nobody saw, was 3.5 miles away."


def write_wav(path, samples: np.ndarray, rate: int, width: int = 2) -> None:
    """PCM, samples [T] or [T, channels]."""
    values = np.round(np.clip(samples, -1, 1) * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    if width == 1:
        content = (values + 128).astype(np.uint8).tobytes()
    else:
        content = values.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate", [4800, 8000, 16000, 22050, 24000, 44100, 48000])
def test_recordings_of_any_rate_and_number_of_channels(rate, channels, pair, tmp_path):
    both = pair()
    path = tmp_path / "voice.wav"
    samples = np.stack([synthetic_prompt(1.3, rate, seed) for seed in range(channels)], axis=1)
    write_wav(path, samples[:, 0] if channels == 1 else samples, rate)
    theirs = both.upstream.get_state_for_audio_prompt(path)
    ours = both.ours.get_state_for_audio_prompt(path)
    # float32 resampling on both sides costs some digits more than the network.
    check_states(theirs, ours, least_db=80.0)
    if channels == 1:
        both.check_speech((theirs, ours), TEXT, seed=1, least_db=80.0)


def test_a_recording_at_the_models_rate_is_exact(pair, tmp_path):
    both = pair("grouped")
    path = tmp_path / "voice.wav"
    write_wav(path, synthetic_prompt(2.0, 4800, 1), 4800)
    voices = both.upstream.get_state_for_audio_prompt(path), both.ours.get_state_for_audio_prompt(path)
    check_states(*voices)
    both.check_speech(voices, TEXT, seed=1)


@pytest.mark.parametrize("kind", ["loud end", "quiet end", "silence", "short", "dc"])
def test_recordings_that_end_in_every_way(kind, pair):
    both = pair()
    prompt = synthetic_prompt(1.2, 4800, 2)
    rng = np.random.default_rng(3)
    prompt = {
        "loud end": np.concatenate([prompt, 0.5 * rng.standard_normal(999)]),
        "quiet end": np.concatenate([prompt, 1e-4 * rng.standard_normal(4000)]),
        "silence": np.zeros(4000),
        "short": prompt[1000:1200],
        "dc": prompt * 0.2 + 0.4,
    }[kind].astype(np.float32)
    theirs = both.upstream.get_state_for_audio_prompt(torch.from_numpy(prompt)[None])
    check_states(theirs, both.ours.get_state_for_audio_prompt(prompt))


@pytest.mark.parametrize("truncate", [False, True])
def test_long_recordings_and_their_truncation(truncate, pair, tmp_path):
    both = pair()
    path = tmp_path / "voice.wav"
    write_wav(path, np.tile(synthetic_prompt(6.0, 4800, 4), 6), 4800)
    theirs = both.upstream.get_state_for_audio_prompt(path, truncate=truncate)
    check_states(theirs, both.ours.get_state_for_audio_prompt(path, truncate=truncate))


@pytest.mark.parametrize("name", ["plain", "grouped", "one_kv_head", "projected", "separate_decoder"])
def test_saved_voices_cross_over_and_back(name, pair, tmp_path):
    both = pair(name)
    theirs, ours = both.voices()
    torch.manual_seed(1)
    expected = both.upstream.generate_audio(theirs, TEXT).numpy()
    by_us = both.ours.generate_audio(ours, TEXT, seed=1)

    upstream_export(theirs, tmp_path / "theirs.safetensors")
    both.ours.export_model_state(ours, tmp_path / "ours.safetensors")

    read_by_us = both.ours.get_state_for_audio_prompt(tmp_path / "theirs.safetensors")
    assert snr_db(expected, both.ours.generate_audio(read_by_us, TEXT, seed=1)) >= 90
    read_by_them = both.upstream.get_state_for_audio_prompt(tmp_path / "ours.safetensors")
    torch.manual_seed(1)
    assert snr_db(by_us, both.upstream.generate_audio(read_by_them, TEXT).numpy()) >= 90

    # And once more around: bit for bit, since no arithmetic is done on the way.
    both.ours.export_model_state(read_by_us, tmp_path / "around.safetensors")
    around = both.upstream.get_state_for_audio_prompt(tmp_path / "around.safetensors")
    for module, entries in theirs.items():
        for kind, value in entries.items():
            np.testing.assert_array_equal(around[module][kind].numpy(), value.numpy())


def test_a_voice_that_has_spoken_crosses_over(pair, tmp_path):
    """Its cache has room beyond its length, full of NaN."""
    both = pair()
    theirs, ours = both.voices()
    torch.manual_seed(1)
    both.upstream.generate_audio(theirs, TEXT, copy_state=False)
    both.ours.generate_audio(ours, TEXT, copy_state=False, seed=1)
    upstream_export(theirs, tmp_path / "spoken.safetensors")
    read = both.ours.get_state_for_audio_prompt(tmp_path / "spoken.safetensors")
    assert np.isnan(read["transformer.layers.0.self_attn"]["cache"]).any()
    check_states(theirs, read)
    check_states(theirs, ours)
    voices = theirs, read
    both.check_speech(voices, TEXT, seed=2)


@pytest.mark.parametrize("with_codec", [False, True])
@pytest.mark.parametrize("with_ema", [False, True])
def test_training_checkpoints_speak_alike(with_codec, with_ema, checkpoints, tmp_path):
    path = checkpoints("grouped")
    config = load_config(path)
    other = {name: torch.from_numpy(v) for name, v in random_weights(config, 9, eos_after=12.0).items()}
    payload = {"model": {n: v for n, v in other.items() if with_codec or n.startswith("flow_lm.")}}
    if with_ema:
        ema = random_weights(config, 10, eos_after=12.0)
        payload["ema"] = {
            n: torch.from_numpy(v) for n, v in ema.items() if "transformer.layers.1" in n and "flow_lm" in n
        }
    torch.save(payload, tmp_path / "step.pt")
    both = Pair(path, checkpoint=str(tmp_path / "step.pt"))
    both.check_speech(both.voices(), TEXT, seed=1)
    with pytest.raises(ValueError, match="alba"):
        both.upstream.get_state_for_audio_prompt("alba")
    with pytest.raises(ValueError, match="alba"):
        both.ours.get_state_for_audio_prompt("alba")


def test_what_both_refuse_is_refused_with_the_same_kind_of_error(pair, tmp_path):
    both = pair()
    for model in (both.upstream, both.ours):
        with pytest.raises(FileNotFoundError):
            model.get_state_for_audio_prompt(tmp_path / "missing.wav")
        with pytest.raises(FileNotFoundError):
            model.get_state_for_audio_prompt(tmp_path / "missing.safetensors")
        with pytest.raises(ValueError):
            model.get_state_for_audio_prompt("alba")
    for load in (Upstream.load_model, TTSModel.load_model):
        with pytest.raises(FileNotFoundError):
            load(language="klingon")
        with pytest.raises(FileNotFoundError):
            load(config=str(tmp_path / "missing.yaml"))
        with pytest.raises(ValueError):
            load(language="english", config="x.yaml")
        with pytest.raises(ValueError):
            load(config="x.txt")


def test_a_tensor_of_torch_is_a_recording(pair):
    both = pair()
    prompt = torch.from_numpy(synthetic_prompt(1.0, 4800, 5))[None]
    check_states(both.upstream.get_state_for_audio_prompt(prompt), both.ours.get_state_for_audio_prompt(prompt))


def test_names_are_as_in_the_original(pair):
    """Code written for the original finds every public method and attribute that it uses."""
    both = pair()
    for name in ("sample_rate", "config", "temp", "sampler_decode_steps", "noise_clamp", "eos_threshold"):
        assert hasattr(both.ours, name), name
        assert hasattr(both.upstream, name), name
    assert both.ours.has_voice_cloning == both.upstream.has_voice_cloning
    assert str(both.ours.device) == str(both.upstream.device)
