"""Tensor names, loading rules and synthetic checkpoints against the original."""

import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pockettts_fast.config import (
    available_languages,
    config_from_dict,
    config_to_dict,
    language_config_path,
    load_config,
)
from pockettts_fast.testing import (
    random_weights,
    save_weights,
    synthetic_prompt,
    tiny_config,
    write_checkpoint,
)
from pockettts_fast.voice_state import check_model_state, export_model_state, read_model_state
from pockettts_fast.weight_names import expected_tensors
from pockettts_fast.weights import load_tensors

torch = pytest.importorskip("torch")
pytest.importorskip("pocket_tts")
pytestmark = pytest.mark.parity

RICH = {
    "z_dim": 12,
    "rank": 8,
    "num_kv_heads": 2,
    "attn_dim": 32,
    "dim_feedforward": 40,
    "separate_decoder": True,
    "n_residual_layers": 2,
    "insert_bos_before_voice": False,
    "inner_dim": 24,
}
FLOW_TYPES = ["lsd", "flow_matching", "drifting", "pointwise"]
TEXT = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(autouse=True)
def _quiet_upstream(recwarn):
    """The original warns about things of its own; only its results are compared."""


def upstream_state_dict(config):
    """Names and shapes of the original's modules, built without memory."""
    from pocket_tts.models import flow_lm as upstream_flow_lm
    from pocket_tts.models.mimi import build_mimi
    from pocket_tts.modules import text_conditioner
    from pocket_tts.utils.config import Config

    parsed = Config(**config_to_dict(config))
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(text_conditioner, "build_tokenizer", lambda *args: None)
    try:
        with torch.device("meta"):
            model = torch.nn.Module()
            model.flow_lm = upstream_flow_lm.FlowLMModel.from_pydantic_config(
                parsed.flow_lm,
                latent_dim=parsed.mimi.quantizer.dimension,
                insert_bos_before_voice=parsed.flow_lm.insert_bos_before_voice,
            )
            width = parsed.mimi.inner_dim or parsed.mimi.seanet.dimension
            model.flow_lm.speaker_proj_weight = torch.nn.Parameter(
                torch.zeros((parsed.flow_lm.transformer.d_model, width))
            )
            model.mimi = build_mimi(parsed.mimi)
    finally:
        monkeypatch.undo()
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_the_release_has_its_twenty_seven_languages():
    assert len([name for name in available_languages() if name != "demo"]) == 27


@pytest.mark.parametrize("language", [name for name in available_languages() if name != "demo"])
def test_a_released_configuration_has_exactly_upstreams_tensors(language):
    config = load_config(language_config_path(language))
    assert expected_tensors(config) == upstream_state_dict(config)


@pytest.mark.parametrize("flow_type", FLOW_TYPES)
@pytest.mark.parametrize("switches", [{}, RICH, {"num_kv_heads": 1, "ratios": (3, 2)}])
def test_a_tiny_configuration_has_exactly_upstreams_tensors(flow_type, switches):
    config = config_from_dict(tiny_config(flow_type=flow_type, **switches), "test")
    assert expected_tensors(config) == upstream_state_dict(config)


def upstream_model(path: Path):
    from pocket_tts import TTSModel

    return TTSModel.load_model(config=str(path))


def check_equal(weights, model, rtol=0.0):
    state = model.state_dict()
    assert set(weights) == set(state)
    for name in weights:
        np.testing.assert_allclose(weights.float32(name), state[name].numpy(), rtol=rtol, err_msg=name)


def check_speech(model, seed):
    """The original speaks with the weights: finite, moving, loud enough, not clipped."""
    prompt = synthetic_prompt(2.0, model.sample_rate, seed)
    torch.manual_seed(seed)
    state = model.get_state_for_audio_prompt(torch.from_numpy(prompt)[None])
    audio = model.generate_audio(state, TEXT).numpy()
    assert np.isfinite(audio).all()
    assert 0.05 < audio.std() < 0.3
    assert np.abs(audio).max() < 1.5
    return state


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("flow_type", FLOW_TYPES)
def test_upstream_loads_a_tiny_checkpoint_and_speaks(tmp_path, flow_type, dtype):
    switches = RICH if dtype == "float16" else {}
    path = write_checkpoint(tmp_path, tiny_config(flow_type=flow_type, **switches), 7, dtype)
    model = upstream_model(path)
    with load_tensors(load_config(path)) as weights:
        check_equal(weights, model)
    check_speech(model, 7)


def test_upstream_loads_a_synthetic_released_model_and_speaks(tmp_path):
    path = write_checkpoint(tmp_path, "english_2m_2026-10", 1, tokenizer="sentencepiece")
    model = upstream_model(path)
    with load_tensors(load_config(path)) as weights:
        check_equal(weights, model)
    check_speech(model, 1)


def test_both_kinds_of_synthetic_tokenizers_agree_in_upstream(tmp_path):
    ids = []
    for kind in ("json", "sentencepiece"):
        path = write_checkpoint(tmp_path / kind, tiny_config(n_bins=1000), 2, tokenizer=kind)
        ids.append(upstream_model(path).flow_lm.conditioner.tokenizer.encode(TEXT))
    assert ids[0] == ids[1]


def readdressed(path: Path, **addresses) -> Path:
    config = load_config(path)
    config = msgspec.structs.replace(
        config,
        weights_path=addresses.get("bundle"),
        flow_lm=msgspec.structs.replace(config.flow_lm, weights_path=addresses.get("flow_lm")),
        mimi=msgspec.structs.replace(config.mimi, weights_path=addresses.get("mimi")),
    )
    import yaml

    changed = path.with_name("changed.yaml")
    changed.write_text(yaml.safe_dump(config_to_dict(config)), encoding="utf-8")
    return changed


def raw_files(folder: Path, config, seed: int) -> dict[str, str]:
    """Files with the training code's names: the encoder as weight norms, plus tensors to be skipped."""
    rng = np.random.default_rng(zlib.crc32(b"raw_files"))
    flow_lm, mimi = {}, {}
    table = "condition_provider.conditioners.transcript_in_segment"
    for name, values in random_weights(config, seed).items():
        part, _, rest = name.partition(".")
        rest = rest.replace("self_attn.in_proj.weight", "self_attn.in_proj_weight")
        if part == "flow_lm":
            rest = rest.replace("conditioner.embed", f"{table}.embed")
            rest = rest.replace(
                "speaker_proj_weight", "condition_provider.conditioners.speaker_wavs.output_proj.weight"
            )
            flow_lm[rest.replace("bos_before_voice", "fuser.padding_value")] = values
        elif rest.startswith("encoder.model.") and rest.endswith(".weight"):
            raw = rest.replace(".conv.", ".conv.conv.")
            mimi[f"{raw}_g"] = rng.uniform(0.5, 2.0, (len(values), 1, 1)).astype(np.float32)
            mimi[f"{raw}_v"] = values
        else:
            raw = rest.replace(".convtr.", ".convtr.convtr.", 1).replace(".conv.", ".conv.conv.", 1)
            mimi[f"model.{raw}"] = values
    one = np.ones(1, np.float32)
    flow_lm |= {"num_ema_updates": one, "flow.w_s_t.0.weight": one, f"{table}.learnt_padding": one}
    mimi |= {"model.quantizer.vq.x": one, "wavlm_emb_downsample.conv.conv.weight": one}
    paths = {"flow_lm": str(folder / "flow_lm.safetensors"), "mimi": str(folder / "mimi.safetensors")}
    save_weights(flow_lm, paths["flow_lm"])
    save_weights(mimi, paths["mimi"])
    return paths


def test_raw_files_give_upstreams_tensors(tmp_path):
    path = write_checkpoint(tmp_path, tiny_config(), 7)
    paths = raw_files(tmp_path, load_config(path), 8)
    # A norm over at most a few hundred float32 values, a quotient and a product on both sides.
    rtol = 16 * 2.0**-24
    for addresses in (
        paths,
        {"bundle": str(tmp_path / "model.safetensors"), "mimi": paths["mimi"]},
        {"flow_lm": paths["flow_lm"], "mimi": str(tmp_path / "model.safetensors")},
    ):
        changed = readdressed(path, **addresses)
        with load_tensors(load_config(changed)) as weights:
            check_equal(weights, upstream_model(changed), rtol)


@pytest.mark.parametrize("with_codec", [False, True])
@pytest.mark.parametrize("with_ema", [False, True])
def test_a_training_checkpoint_gives_upstreams_tensors(tmp_path, with_codec, with_ema):
    from pocket_tts import TTSModel

    path = write_checkpoint(tmp_path, tiny_config(), 7)
    config = load_config(path)
    names = [name for name in expected_tensors(config) if with_codec or name.startswith("flow_lm.")]
    other = {name: torch.from_numpy(values) for name, values in random_weights(config, 9).items()}
    payload = {"model": {name: other[name] for name in names}}
    if with_codec:
        payload["model"]["mimi.left_over"] = torch.ones(2)
    if with_ema:
        ema = random_weights(config, 10)
        payload["ema"] = {"flow_lm.bos_emb": torch.from_numpy(ema["flow_lm.bos_emb"])}
    torch.save(payload, tmp_path / "checkpoint.pt")
    model = TTSModel.load_model(config=str(path), checkpoint=str(tmp_path / "checkpoint.pt"))
    with load_tensors(config, tmp_path / "checkpoint.pt") as weights:
        assert weights.has_custom_weights
        check_equal(weights, model)


def test_a_file_that_is_no_training_checkpoint_is_one_sentence(tmp_path):
    from pockettts_fast.errors import WeightsError

    path = write_checkpoint(tmp_path, tiny_config(), 7)
    for content in (b"", b"garbage", b"PK\x03\x04" + bytes(50)):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            load_tensors(load_config(path), tmp_path / "bad.pt")
        assert "\n" not in str(caught.value)


def test_voice_states_cross_over(tmp_path):
    from pocket_tts.models.model_state import export_model_state as upstream_export

    path = write_checkpoint(tmp_path, tiny_config(**RICH), 7)
    config = load_config(path)
    model = upstream_model(path)
    state = check_speech(model, 3)
    upstream_export(state, tmp_path / "theirs.safetensors")
    ours = read_model_state(tmp_path / "theirs.safetensors")
    offset = check_model_state(ours, config)
    assert offset == int(next(iter(state.values()))["offset"])
    export_model_state(state, tmp_path / "ours.safetensors")
    export_model_state(ours, tmp_path / "again.safetensors")
    for name in ("ours.safetensors", "again.safetensors"):
        back = model.get_state_for_audio_prompt(tmp_path / name)
        assert back.keys() == state.keys()
        for module, entries in state.items():
            for kind, tensor in entries.items():
                assert back[module][kind].dtype == tensor.dtype
                np.testing.assert_array_equal(back[module][kind].numpy(), tensor.numpy())
