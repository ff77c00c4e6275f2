"""Voices: recordings in every form, saved states, and what is refused."""

import logging
import struct
import wave

import numpy as np
import pytest
import safetensors.numpy

import tiny_models
from pockettts_fast import export_model_state
from pockettts_fast.audio.prompt import prepare_prompt
from pockettts_fast.errors import AudioError, MissingFileError, OutputError, PocketTTSError, VoiceError
from pockettts_fast.testing import synthetic_prompt
from pockettts_fast.voice_state import attention_module
from reference import backbone, codec
from reference.closeness import assert_close
from reference.formulas import in_precision

RATE = 4800


@pytest.fixture
def model(speakers):
    return speakers()[0]


@pytest.fixture
def prompt() -> np.ndarray:
    return synthetic_prompt(2.0, RATE, 3)


def assert_same_voice(one, other) -> None:
    assert one.keys() == other.keys()
    for module in one:
        assert one[module].keys() == other[module].keys()
        for kind in one[module]:
            np.testing.assert_array_equal(one[module][kind], other[module][kind])


def write_wav(path, samples: np.ndarray, rate: int) -> None:
    """16-bit PCM, samples [T] or [T, channels]."""
    pcm = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if pcm.ndim == 1 else pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


# --- recordings ------------------------------------------------------------------------------------------


def test_a_voice_is_the_prepared_recording_through_encoder_and_backbone(model, prompt):
    voice = model.get_state_for_audio_prompt(prompt)
    pcm = prepare_prompt(prompt, RATE, RATE)
    weights = tiny_models.random_weights(model.config, 1)
    caches = []
    for dtype in (np.float64, np.float32):
        cast = in_precision(weights, dtype)
        latents = codec.encode(cast, model.config, pcm)
        rows = backbone.rows_of_prompt(cast, model.config, latents)
        shape = backbone.transformer_shape(model.config)
        caches.append(backbone.transformer(cast, "flow_lm.", rows, shape)[1])
    for layer, (exact, single) in enumerate(zip(*caches, strict=True)):
        entries = voice[attention_module(layer)]
        assert_close(entries["cache"], exact, single)
        assert entries["offset"].tolist() == [exact.shape[2]]
        assert entries["pad"].tolist() == [0]


class ArrayLike:
    """What a tensor of another library looks like."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self._values, dtype)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x[None],
        lambda x: x.astype(np.float64),
        lambda x: x.copy()[::-1][::-1],
        lambda x: ArrayLike(x),
        lambda x: ArrayLike(x[None]),
        lambda x: np.stack([x, x]),
    ],
    ids=["one channel", "float64", "negative strides", "array-like", "array-like row", "two equal channels"],
)
def test_an_array_in_any_form_is_the_same_voice(form, model, prompt):
    assert_same_voice(model.get_state_for_audio_prompt(form(prompt)), model.get_state_for_audio_prompt(prompt))


def test_int16_samples_are_divided_by_32768(model, prompt):
    pcm = np.round(prompt * 32767).astype(np.int16)
    expected = model.get_state_for_audio_prompt(pcm.astype(np.float32) / 32768)
    assert_same_voice(model.get_state_for_audio_prompt(pcm), expected)


def test_an_array_is_not_changed(model, prompt):
    before = prompt.copy()
    model.get_state_for_audio_prompt(prompt)
    np.testing.assert_array_equal(prompt, before)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_file_at_the_models_rate_is_its_samples(as_text, model, prompt, tmp_path):
    path = tmp_path / "a voice é.wav"
    write_wav(path, prompt, RATE)
    pcm = np.round(np.clip(prompt, -1, 1) * 32767).astype(np.int16)
    voice = model.get_state_for_audio_prompt(str(path) if as_text else path)
    assert_same_voice(voice, model.get_state_for_audio_prompt(pcm))


@pytest.mark.parametrize("rate", [1000, 8000, 44100, 48000])
def test_a_file_at_another_rate_is_resampled(rate, model, tmp_path):
    write_wav(tmp_path / "voice.wav", synthetic_prompt(1.0, rate, 4), rate)
    voice = model.get_state_for_audio_prompt(tmp_path / "voice.wav")
    seconds = voice[attention_module(0)]["offset"][0] / 12.5
    assert 0.5 < seconds < 1.4
    assert np.isfinite(voice[attention_module(1)]["cache"]).all()


def test_truncate_takes_the_first_thirty_seconds(model, tmp_path, prompt):
    long = np.tile(prompt, 20)
    first = long[: 30 * RATE]
    expected = model.get_state_for_audio_prompt(first)
    assert_same_voice(model.get_state_for_audio_prompt(long, truncate=True), expected)
    write_wav(tmp_path / "long.wav", long, RATE)
    write_wav(tmp_path / "first.wav", first, RATE)
    assert_same_voice(
        model.get_state_for_audio_prompt(tmp_path / "long.wav", truncate=True),
        model.get_state_for_audio_prompt(tmp_path / "first.wav"),
    )
    whole = model.get_state_for_audio_prompt(long)
    assert whole[attention_module(0)]["offset"] > expected[attention_module(0)]["offset"]


def test_a_long_prompt_speaks(model):
    voice = model.get_state_for_audio_prompt(synthetic_prompt(120.0, RATE, 5))
    assert voice[attention_module(0)]["offset"] > 1400
    assert np.isfinite(model.generate_audio(voice, "Hello there.", seed=1)).all()


def test_silence_is_a_voice_with_a_warning(model, caplog):
    with caplog.at_level(logging.WARNING):
        voice = model.get_state_for_audio_prompt(np.zeros(RATE, np.float32))
    assert any("silent" in message for message in caplog.messages)
    assert np.isfinite(model.generate_audio(voice, "Hello there.", seed=1)).all()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.ones(1, np.float32), "20 ms"),
        (np.ones(int(0.019 * RATE), np.float32), "20 ms"),
        (np.zeros(0, np.float32), "no samples"),
        (np.full(RATE, np.nan, np.float32), "NaN"),
        (np.full(RATE, np.inf, np.float32), "infinite"),
        (np.full(RATE, 1e30, np.float32), "too loud"),
        (np.zeros(RATE, np.int32), "int32"),
        (np.zeros(RATE, bool), "bool"),
        (np.zeros((2, 3, RATE), np.float32), "shape"),
        (np.zeros((RATE, 2), np.float32), "transposed"),
        (np.zeros((), np.float32), "shape"),
        ([0.0] * RATE, "list"),
        (None, "NoneType"),
        (5, "int"),
        (b"voice.wav", "bytes"),
    ],
)
def test_an_unusable_array_is_an_error(samples, message, model):
    with pytest.raises(AudioError, match=message) as caught:
        model.get_state_for_audio_prompt(samples)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 10, 95])
def test_a_file_that_is_too_short_is_an_error(count, model, tmp_path):
    write_wav(tmp_path / "voice.wav", np.full(count, 0.5), RATE)
    with pytest.raises(AudioError):
        model.get_state_for_audio_prompt(tmp_path / "voice.wav")


def test_the_shortest_recording_works(model):
    voice = model.get_state_for_audio_prompt(np.full(96, 0.1, np.float32))
    assert np.isfinite(model.generate_audio(voice, "Hello there.", seed=1)).all()


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("voice.wav", b"", AudioError),
        ("voice.wav", b"garbage", AudioError),
        ("voice.safetensors", b"", VoiceError),
        ("voice.safetensors", b"garbage of more than eight bytes", VoiceError),
        ("voice.safetensors", struct.pack("<Q", 2**60) + b"{}", VoiceError),
        ("voice.pt", b"\x80\x04\x95", AudioError),
    ],
)
def test_a_damaged_file_is_one_sentence(name, content, error, model, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        model.get_state_for_audio_prompt(tmp_path / name)
    assert "\n" not in str(caught.value)


# --- names -----------------------------------------------------------------------------------------------


def test_a_name_that_is_neither_a_file_nor_a_voice_mentions_both(model):
    with pytest.raises(VoiceError, match="no file 'nobody' and no built-in voice") as caught:
        model.get_state_for_audio_prompt("nobody")
    assert isinstance(caught.value, FileNotFoundError)
    for missing in ("/nowhere/voice.safetensors", "/nowhere/voice.wav"):
        with pytest.raises(MissingFileError):
            model.get_state_for_audio_prompt(missing)
    with pytest.raises(PocketTTSError):
        model.get_state_for_audio_prompt("")


def test_a_built_in_voice_needs_a_released_language(model):
    with pytest.raises(VoiceError, match="custom configuration"):
        model.get_state_for_audio_prompt("alba")


def test_a_built_in_voice_of_another_model_is_refused_by_name():
    from pockettts_fast import TTSModel

    demo = TTSModel.load_model("demo")
    with pytest.raises(VoiceError, match="'alba'"):
        demo.get_state_for_audio_prompt("alba")


# --- saved states ----------------------------------------------------------------------------------------


def test_a_saved_voice_is_the_voice_bit_for_bit(speakers, tmp_path):
    model, voice = speakers("grouped")
    model.export_model_state(voice, tmp_path / "voice.safetensors")
    export_model_state(voice, str(tmp_path / "other.safetensors"))
    assert (tmp_path / "voice.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()
    loaded = model.get_state_for_audio_prompt(str(tmp_path / "voice.safetensors"))
    assert_same_voice(loaded, voice)
    np.testing.assert_array_equal(
        model.generate_audio(loaded, "Hello there.", seed=1),
        model.generate_audio(voice, "Hello there.", seed=1),
    )


def save(path, voice, **changes) -> None:
    """The state as a file, with other entries: kind -> function of the value, or None to leave it out."""
    tensors = {}
    for module, entries in voice.items():
        for kind, value in entries.items():
            change = changes.get(kind, lambda v: v)
            if change is not None:
                tensors[f"{module}/{kind}"] = np.ascontiguousarray(change(value))
        if "current_end" in changes:
            tensors[f"{module}/current_end"] = changes["current_end"]
    safetensors.numpy.save_file(tensors, path)


def test_the_legacy_format_has_its_offset_in_a_length(speakers, tmp_path):
    model, voice = speakers()
    offset = int(voice[attention_module(0)]["offset"][0])
    spare = lambda cache: np.pad(  # noqa: E731
        cache, ((0, 0), (0, 0), (0, 30), (0, 0), (0, 0)), constant_values=np.nan
    )
    save(
        tmp_path / "legacy.safetensors",
        voice,
        offset=None,
        pad=None,
        cache=spare,
        current_end=np.zeros(offset, np.float32),
    )
    legacy = model.get_state_for_audio_prompt(tmp_path / "legacy.safetensors")
    np.testing.assert_array_equal(
        model.generate_audio(legacy, "Hello there.", seed=1),
        model.generate_audio(voice, "Hello there.", seed=1),
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [("grouped", "another model"), ("projected", "another model"), ("codec_projections", None)],
)
def test_a_voice_of_another_model_is_refused_by_shape(name, message, speakers, tmp_path):
    model = speakers()[0]
    other, voice = speakers(name)
    other.export_model_state(voice, tmp_path / "voice.safetensors")
    if message is None:  # the same language model with another codec: the shapes fit
        model.get_state_for_audio_prompt(tmp_path / "voice.safetensors")
        return
    with pytest.raises(VoiceError, match=message):
        model.get_state_for_audio_prompt(tmp_path / "voice.safetensors")
    with pytest.raises(VoiceError, match=message):
        model.generate_audio(voice, "Hello there.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": lambda v: v + 10_000}, "claims"),
        ({"offset": lambda v: -v}, "claims"),
        ({"offset": None}, "no offset"),
        ({"cache": None}, "no cache"),
        ({"cache": lambda v: v.astype(np.int32)}, "holds I32 values"),
        ({"cache": lambda v: v * np.float32(np.nan)}, "NaN"),
        ({"pad": lambda v: v + 1}, "padding"),
        ({"pad": lambda v: v.astype(np.float32)}, "integer|float"),
        ({"cache": lambda v: v[:1]}, "shape"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(changes, message, speakers, tmp_path):
    model, voice = speakers()
    save(tmp_path / "voice.safetensors", voice, **changes)
    with pytest.raises(VoiceError, match=message):
        model.get_state_for_audio_prompt(tmp_path / "voice.safetensors")


def test_a_state_that_cannot_be_written_leaves_nothing(speakers, tmp_path):
    model, voice = speakers()
    with pytest.raises(OutputError):
        model.export_model_state(voice, tmp_path / "nowhere" / "voice.safetensors")
    with pytest.raises(OutputError, match="directory"):
        model.export_model_state(voice, tmp_path)
    with pytest.raises(VoiceError, match="empty"):
        model.export_model_state({}, tmp_path / "voice.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_may_be_encoded_by_many_threads_at_once(checkpoints, prompt):
    from concurrent.futures import ThreadPoolExecutor

    from pockettts_fast import TTSModel

    model = TTSModel.load_model(config=checkpoints())
    with ThreadPoolExecutor(6) as pool:
        voices = list(pool.map(model.get_state_for_audio_prompt, [prompt] * 6))
    for voice in voices[1:]:
        assert_same_voice(voice, voices[0])
