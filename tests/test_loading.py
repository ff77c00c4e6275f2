"""Loading models from files of every kind, and letting go of them."""

import os

import msgspec
import numpy as np
import pytest
import yaml

import tiny_models
from pockettts_fast import TTSModel
from pockettts_fast.config import config_to_dict, load_config
from pockettts_fast.errors import DownloadError, TokenizerError, VoiceError, WeightsError
from pockettts_fast.testing import save_weights, synthetic_prompt
from pockettts_fast.weight_names import expected_tensors

TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it would do so again and again."


def changed(path, folder, **changes):
    """The configuration at `path` with other values, at a new place."""
    config = msgspec.structs.replace(load_config(path), **changes)
    new = folder / "changed.yaml"
    new.write_text(yaml.safe_dump(config_to_dict(config)), encoding="utf-8")
    return new


def speaks_alike(one: TTSModel, other: TTSModel, rtol: float = 0.0) -> bool:
    prompt = synthetic_prompt(1.0, one.sample_rate, 3)
    voices = [model.get_state_for_audio_prompt(prompt) for model in (one, other)]
    return all(
        np.array_equal(voices[0][module]["cache"], voices[1][module]["cache"]) for module in voices[0]
    ) and np.array_equal(*(m.generate_audio(v, TEXT, seed=1) for m, v in zip((one, other), voices, strict=True)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_half_precision_checkpoint_is_its_values_in_float32(tmp_path, checkpoints, dtype):
    path = checkpoints("grouped")
    config = load_config(path)
    arrays = tiny_models.random_weights(config, 1)
    save_weights(arrays, tmp_path / "half.safetensors", dtype)
    if dtype == "float16":
        wide = {name: values.astype(np.float16).astype(np.float32) for name, values in arrays.items()}
    else:
        # Round to nearest, ties to even, of the upper 16 bits.
        wide = {
            name: ((v.view(np.uint32) + 0x7FFF + ((v.view(np.uint32) >> 16) & 1)) & 0xFFFF0000).view(np.float32)
            for name, v in ((name, np.ascontiguousarray(values)) for name, values in arrays.items())
        }
    save_weights(wide, tmp_path / "wide.safetensors")
    models = [
        TTSModel.load_model(config=changed(path, tmp_path, weights_path=str(tmp_path / f"{name}.safetensors")))
        for name in ("half", "wide")
    ]
    assert speaks_alike(*models)


def test_two_files_of_the_training_code_make_the_same_model(tmp_path, checkpoints):
    path = checkpoints()
    config = load_config(path)
    table = "condition_provider.conditioners"
    flow_lm, mimi = {}, {}
    for name, values in tiny_models.random_weights(config, 1).items():
        part, _, rest = name.partition(".")
        rest = rest.replace("self_attn.in_proj.weight", "self_attn.in_proj_weight")
        if part == "flow_lm":
            rest = rest.replace("conditioner.embed", f"{table}.transcript_in_segment.embed")
            rest = rest.replace("speaker_proj_weight", f"{table}.speaker_wavs.output_proj.weight")
            flow_lm[rest.replace("bos_before_voice", "fuser.padding_value")] = values
        else:
            rest = rest.replace(".convtr.", ".convtr.convtr.", 1).replace(".conv.", ".conv.conv.", 1)
            mimi[f"model.{rest}"] = values
    flow_lm["num_ema_updates"] = mimi["model.quantizer.vq.x"] = np.ones(1, np.float32)
    save_weights(flow_lm, tmp_path / "flow_lm.safetensors")
    save_weights(mimi, tmp_path / "mimi.safetensors")
    two = changed(
        path,
        tmp_path,
        weights_path=None,
        flow_lm=msgspec.structs.replace(config.flow_lm, weights_path=str(tmp_path / "flow_lm.safetensors")),
        mimi=msgspec.structs.replace(config.mimi, weights_path=str(tmp_path / "mimi.safetensors")),
    )
    assert speaks_alike(TTSModel.load_model(config=path), TTSModel.load_model(config=two))


@pytest.mark.parametrize("kind", ["json", "sentencepiece"])
def test_both_kinds_of_tokenizers_load(tmp_path, kind):
    from pockettts_fast.testing import write_checkpoint

    path = write_checkpoint(tmp_path, tiny_models.document("plain"), 1, tokenizer=kind)
    model = TTSModel.load_model(config=path)
    assert [chunk.text for chunk in model.split_text("hello there")] == ["Hello there."]


def test_damaged_files_are_errors_of_their_kind(tmp_path, checkpoints):
    path = checkpoints()
    (tmp_path / "bad").write_bytes(b"garbage")
    with pytest.raises(WeightsError):
        TTSModel.load_model(config=changed(path, tmp_path, weights_path=str(tmp_path / "bad")))
    config = load_config(path)
    table = msgspec.structs.replace(config.flow_lm.lookup_table, tokenizer_path=str(tmp_path / "bad"))
    flow_lm = msgspec.structs.replace(config.flow_lm, lookup_table=table)
    with pytest.raises(TokenizerError):
        TTSModel.load_model(config=changed(path, tmp_path, flow_lm=flow_lm))
    other = tiny_models.random_weights(load_config(checkpoints("grouped")), 1)
    save_weights(other, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"is missing|has shape"):
        TTSModel.load_model(config=changed(path, tmp_path, weights_path=str(tmp_path / "other.safetensors")))


def test_without_the_gated_weights_saved_voices_still_speak(tmp_path, checkpoints, speakers, monkeypatch, caplog):
    path = checkpoints()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    gated = "hf://kyutai/pocket-tts/tiny.safetensors@0123456789012345678901234567890123456789"
    local = load_config(path).weights_path
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        TTSModel.load_model(config=changed(path, tmp_path, weights_path=gated))
    config = changed(path, tmp_path, weights_path=gated, weights_path_without_voice_cloning=local)
    model = TTSModel.load_model(config=config)
    assert model.has_voice_cloning is False
    assert any("without voice cloning" in message for message in caplog.messages)
    (tmp_path / "voice.wav").write_bytes(b"")
    for recording in (tmp_path / "voice.wav", str(tmp_path / "voice.wav"), np.zeros(4800, np.float32)):
        with pytest.raises(VoiceError, match="without voice cloning"):
            model.get_state_for_audio_prompt(recording)
    other, voice = speakers()
    model.export_model_state(voice, tmp_path / "voice.safetensors")
    state = model.get_state_for_audio_prompt(tmp_path / "voice.safetensors")
    expected = other.generate_audio(voice, TEXT, seed=1)
    np.testing.assert_array_equal(model.generate_audio(state, TEXT, seed=1), expected)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the system does not list its mappings")
def test_the_weights_file_is_mapped_only_until_the_encoder_is_packed(checkpoints):
    path = checkpoints("plain", 77)
    model = TTSModel.load_model(config=path)

    def mapped() -> bool:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return str(path.parent / "model.safetensors") in maps.read()

    assert mapped()
    model.get_state_for_audio_prompt(synthetic_prompt(0.5, model.sample_rate, 1))
    assert not mapped()
    dropped = TTSModel.load_model(config=path)
    assert mapped()
    del dropped
    assert not mapped()


def test_every_tensor_of_the_checkpoint_changes_what_is_heard(checkpoints):
    """A tensor that nothing reads would be a forgotten part of the model."""
    model = tiny_models.named("separate_decoder", steps=2)
    rng = np.random.default_rng(0)
    given = tiny_models.inputs(model, rng, frames=3)
    pcm = synthetic_prompt(3.2 * model.config.mimi.frame_size / 4800, 4800, 1)

    def everything(built) -> tuple[np.ndarray, ...]:
        state = tiny_models.start(built, given)
        latents, end = tiny_models.speak(built, state, given)
        audio = built.decoder.step([built.decoder.new_state()], [given.noise])[0]
        return latents, end, audio, built.encoder.encode(pcm)

    document = tiny_models.document("separate_decoder")
    right = everything(tiny_models.build(document, arrays=model.weights, steps=2))
    for name in expected_tensors(model.config):
        arrays = model.weights | {name: model.weights[name] * np.float32(1.5) + np.float32(0.1)}
        wrong = everything(tiny_models.build(document, arrays=arrays, steps=2))
        assert any(not np.array_equal(a, b) for a, b in zip(right, wrong, strict=True)), name
