"""Naming tensors, and the rules that lead from a configuration to weights."""

import gc
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from pockettts_fast import weights as weights_module
from pockettts_fast.config import config_from_dict, config_to_dict
from pockettts_fast.errors import ConfigError, DependencyError, DownloadError, MissingFileError, WeightsError
from pockettts_fast.safetensors_file import TensorView, open_checkpoint
from pockettts_fast.testing import random_weights, save_weights, tiny_config, write_checkpoint
from pockettts_fast.weight_names import expected_tensors, raw_flow_lm_name, raw_mimi_name
from pockettts_fast.weights import fold_weight_norm, load_tensors


def tiny(**switches):
    return config_from_dict(tiny_config(**switches), "test")


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


# Names.


def test_every_switch_of_a_configuration_shows_in_the_names():
    plain = expected_tensors(tiny(flow_type="drifting", insert_bos_before_voice=False))
    assert not any("time_embed" in name or "z_proj" in name or "bos_before_voice" in name for name in plain)
    rich = expected_tensors(
        tiny(z_dim=12, rank=8, num_kv_heads=2, attn_dim=32, dim_feedforward=40, separate_decoder=True)
    )
    assert rich["flow_lm.z_proj.weight"] == (12, 16)
    assert rich["flow_lm.out_eos.weight"] == (1, 12)
    assert rich["flow_lm.flow_net.cond_embed.weight"] == (16, 12)
    assert rich["flow_lm.conditioner.embed.weight"] == (601, 8)
    assert rich["flow_lm.conditioner.proj.weight"] == (16, 8)
    assert rich["flow_lm.transformer.layers.0.self_attn.in_proj.weight"] == (32 + 2 * 2 * 8, 16)
    assert rich["flow_lm.transformer.layers.0.linear1.weight"] == (40, 16)
    assert rich["flow_lm.bos_before_voice"] == (1, 1, 16)
    assert rich["flow_lm.flow_net.time_embed.1.freqs"] == (128,)
    assert rich["mimi.decoder.model.0.conv.weight"] == (48, 8, 3)
    assert rich["mimi.upsample.convtr.convtr.weight"] == (8, 1, 32)
    assert "mimi.decoder_transformer.transformer.layers.2.layer_scale_2.scale" in rich


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("condition_provider.conditioners.transcript_in_segment.embed.weight", "conditioner.embed.weight"),
        ("condition_provider.conditioners.speaker_wavs.output_proj.weight", "speaker_proj_weight"),
        ("fuser.padding_value", "bos_before_voice"),
        ("transformer.layers.3.self_attn.in_proj_weight", "transformer.layers.3.self_attn.in_proj.weight"),
        ("flow.w_s_t.0.weight", None),
        ("num_ema_updates", None),
        ("condition_provider.conditioners.speaker_wavs.learnt_padding", None),
        ("out_norm.weight", "out_norm.weight"),
    ],
)
def test_raw_flow_lm_names_are_translated(raw, name):
    assert raw_flow_lm_name(raw) == name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("model.encoder.model.0.conv.conv.bias", "encoder.model.0.conv.bias"),
        ("decoder.model.2.convtr.convtr.weight", "decoder.model.2.convtr.weight"),
        ("downsample.conv.conv.conv.weight", "downsample.conv.conv.weight"),
        ("upsample.convtr.convtr.convtr.weight", "upsample.convtr.convtr.weight"),
        (
            "encoder_transformer.transformer.layers.0.self_attn.in_proj_weight",
            "encoder_transformer.transformer.layers.0.self_attn.in_proj.weight",
        ),
        ("model.quantizer.vq.layers.0.weight", None),
        ("quantizer.rvq._codebook.sum", None),
        ("wavlm_emb_downsample.conv.conv.weight", None),
        ("wavlm_proj.weight", None),
        ("quantizer.logvar_proj.weight", None),
        ("quantizer.output_proj.weight", "quantizer.output_proj.weight"),
    ],
)
def test_raw_mimi_names_are_translated(raw, name):
    assert raw_mimi_name(raw) == name


def test_a_weight_norm_folds_into_g_times_the_unit_direction(rng):
    v = rng.standard_normal((5, 3, 4)).astype(np.float32)
    g = rng.standard_normal((5, 1, 1)).astype(np.float32)
    folded = fold_weight_norm(TensorView.from_array("v", v), TensorView.from_array("g", g))
    expected = g.astype(np.float64) * v / np.sqrt((v.astype(np.float64) ** 2).sum((1, 2), keepdims=True))
    # A rounding each for the norm, the quotient and the product.
    np.testing.assert_allclose(folded, expected, rtol=3 * 2.0**-24)


def test_a_weight_norm_of_another_size_is_refused():
    with pytest.raises(WeightsError, match="first axis"):
        fold_weight_norm(TensorView.from_array("v", np.ones((5, 2))), TensorView.from_array("g", np.ones(4)))


# The rules.


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_bundle_gives_exactly_the_expected_tensors(tmp_path, dtype):
    config = config_of(write_checkpoint(tmp_path, tiny_config(), 3, dtype))
    expected = random_weights(config, 3)
    with load_tensors(config) as weights:
        assert list(weights) == list(expected_tensors(config))
        assert weights.has_voice_cloning
        assert not weights.has_custom_weights
        # Half a unit in the last place of the stored type; tiny float16 values are subnormal.
        rtol, atol = {"float32": (0, 0), "float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 0)}[dtype]
        for name, values in expected.items():
            np.testing.assert_allclose(weights.float32(name), values, rtol=rtol, atol=atol, err_msg=name)


def config_of(path: Path, **changes):
    import yaml

    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config_from_dict(document | changes, str(path))


def bundle(tmp_path: Path, change=None, dtype="float32", **switches):
    """A tiny configuration whose weights were changed before they were written."""
    path = write_checkpoint(tmp_path, tiny_config(**switches), 3)
    config = config_of(path)
    if change is not None:
        tensors = random_weights(config, 3)
        change(tensors)
        save_weights(tensors, tmp_path / "model.safetensors", dtype)
    return config


def test_missing_extra_misshapen_and_bad_tensors_are_named_in_one_error(tmp_path):
    def change(tensors):
        del tensors["flow_lm.bos_emb"]
        tensors["flow_lm.strange"] = np.ones((2, 5), np.float32)
        tensors["mimi.quantizer.output_proj.weight"] = np.ones((16, 31, 1), np.float32)
        tensors["flow_lm.out_norm.weight"][3] = np.nan

    config = bundle(tmp_path, change)
    with pytest.raises(WeightsError) as caught:
        load_tensors(config)
    message = str(caught.value)
    assert str(tmp_path / "model.safetensors") in message
    assert "flow_lm.bos_emb [32] is missing" in message
    assert "flow_lm.strange [2, 5] is not part of this model" in message
    assert "mimi.quantizer.output_proj.weight has shape [16, 31, 1] instead of [16, 32, 1]" in message
    assert "flow_lm.out_norm.weight holds NaN" in message
    assert "\n" not in message


def test_a_long_list_of_faults_ends_in_a_count(tmp_path):
    config = bundle(tmp_path, lambda tensors: tensors.clear() or tensors.update(x=np.ones(1, np.float32)))
    with pytest.raises(WeightsError, match=r"and \d+ more") as caught:
        load_tensors(config)
    assert str(caught.value).count("missing") == 10


def test_a_failing_load_leaves_no_file_mapped(tmp_path):
    config = bundle(tmp_path, lambda tensors: tensors.pop("flow_lm.bos_emb"))
    with pytest.raises(WeightsError):
        load_tensors(config)
    gc.collect()
    if sys.platform == "linux":
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def raw_files(folder: Path, config, seed: int):
    """FlowLM and Mimi files as the training code writes them, with weight norms and left-overs."""
    flow_lm, mimi = {}, {}
    inverse = {
        "conditioner.embed.weight": "condition_provider.conditioners.transcript_in_segment.embed.weight",
        "speaker_proj_weight": "condition_provider.conditioners.speaker_wavs.output_proj.weight",
        "bos_before_voice": "fuser.padding_value",
    }
    rng = np.random.default_rng(seed)
    for name, values in random_weights(config, seed).items():
        part, _, rest = name.partition(".")
        raw = rest.replace("self_attn.in_proj.weight", "self_attn.in_proj_weight")
        if part == "flow_lm":
            flow_lm[inverse.get(raw, raw)] = values
            continue
        for kind in ("conv", "convtr"):
            if f".{kind}." in raw:
                raw = raw.replace(f".{kind}.", f".{kind}.{kind}.", 1)
        if raw.startswith("encoder.model.") and raw.endswith("weight"):
            norms = np.sqrt(np.square(values).sum(axis=(1, 2), keepdims=True))
            stretch = rng.uniform(0.5, 2.0, (len(values), 1, 1)).astype(np.float32)
            mimi[f"{raw}_g"], mimi[f"{raw}_v"] = norms, values * stretch
        elif raw.startswith("encoder.model."):
            mimi[raw] = values
        else:
            mimi[f"model.{raw}"] = values
    one = np.ones(1, np.float32)
    flow_lm |= {"num_ema_updates": one, "flow.w_s_t.0.weight": one}
    mimi |= {"model.quantizer.vq.x": one, "quantizer.logvar_param": one, "wavlm_proj.weight": one}
    paths = folder / "flow_lm.safetensors", folder / "mimi.safetensors"
    save_weights(flow_lm, paths[0])
    save_weights(mimi, paths[1])
    return paths


def with_addresses(config, *, bundle=None, fallback=None, flow_lm=None, mimi=None):
    document = config_to_dict(config)
    document["weights_path"] = bundle and str(bundle)
    document["weights_path_without_voice_cloning"] = fallback and str(fallback)
    document["flow_lm"]["weights_path"] = flow_lm and str(flow_lm)
    document["mimi"]["weights_path"] = mimi and str(mimi)
    return config_from_dict(document, "test")


def test_raw_files_are_renamed_and_folded(tmp_path):
    config = tiny()
    flow_lm, mimi = raw_files(tmp_path, config, 5)
    expected = random_weights(config, 5)
    with load_tensors(with_addresses(config, flow_lm=flow_lm, mimi=mimi)) as weights:
        for name, values in expected.items():
            # Norm, stretch, its own norm, quotient and product: a few roundings where a norm was folded.
            rtol = 16 * 2.0**-24 if name.startswith("mimi.encoder.") else 0
            np.testing.assert_allclose(weights.float32(name), values, rtol=rtol, err_msg=name)


def test_a_codec_address_beside_a_bundle_replaces_its_codec(tmp_path):
    config = bundle(tmp_path)
    _, mimi = raw_files(tmp_path, config, 5)
    other = random_weights(config, 5)
    own = random_weights(config, 3)
    both = with_addresses(config, bundle=tmp_path / "model.safetensors", mimi=mimi)
    with load_tensors(both) as weights:
        name = "mimi.decoder.model.0.conv.weight"
        np.testing.assert_array_equal(weights.float32(name), other[name])
        np.testing.assert_array_equal(weights.float32("flow_lm.bos_emb"), own["flow_lm.bos_emb"])


def test_a_bundle_serves_as_a_codec_file(tmp_path):
    config = bundle(tmp_path)
    flow_lm, _ = raw_files(tmp_path, config, 5)
    pair = with_addresses(config, flow_lm=flow_lm, mimi=tmp_path / "model.safetensors")
    with load_tensors(pair) as weights:
        assert len(weights) == len(expected_tensors(config))


def test_half_a_weight_norm_is_named(tmp_path):
    config = tiny()
    flow_lm, mimi = raw_files(tmp_path, config, 5)
    with open_checkpoint(mimi) as checkpoint:
        tensors = {name: np.array(view.to_float32()) for name, view in checkpoint.items()}
    del tensors["encoder.model.0.conv.conv.weight_v"]
    save_weights(tensors, mimi)
    with pytest.raises(WeightsError, match=r"encoder\.model\.0\.conv\.conv\.weight_v"):
        load_tensors(with_addresses(config, flow_lm=flow_lm, mimi=mimi))


def test_weights_that_cannot_be_downloaded_fall_back_to_those_without_cloning(tmp_path, monkeypatch):
    config = bundle(tmp_path)
    local = tmp_path / "model.safetensors"

    def resolve(address, *, what="file"):
        if address.startswith("hf://"):
            raise DownloadError("gated")
        return Path(address)

    monkeypatch.setattr(weights_module, "resolve", resolve)
    gated = with_addresses(config, bundle="hf://a/b/c.safetensors", fallback=local)
    with load_tensors(gated) as weights:
        assert not weights.has_voice_cloning
    with pytest.raises(DownloadError, match="gated"):
        load_tensors(with_addresses(config, bundle="hf://a/b/c.safetensors"))


def test_a_missing_local_file_does_not_fall_back(tmp_path):
    config = bundle(tmp_path)
    paths = with_addresses(config, bundle=tmp_path / "none", fallback=tmp_path / "model.safetensors")
    with pytest.raises(MissingFileError):
        load_tensors(paths)


def test_a_configuration_without_weights_is_refused():
    with pytest.raises(ConfigError, match="weights_path"):
        load_tensors(tiny())


def test_half_a_pair_of_addresses_is_refused(tmp_path):
    # Built without config_from_dict, which may refuse it first.
    import msgspec

    config = tiny()
    for part, name in (("flow_lm", "flow_lm"), ("mimi", "mimi")):
        half = msgspec.structs.replace(getattr(config, part), weights_path=str(tmp_path / "x"))
        with pytest.raises(ConfigError, match=f"{name}.weights_path"):
            load_tensors(msgspec.structs.replace(config, **{part: half}))


def test_a_training_checkpoint_needs_torch_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DependencyError, match="PyTorch"):
        load_tensors(tiny(), path)
    with pytest.raises(MissingFileError, match="does not exist"):
        load_tensors(tiny(), tmp_path / "none.pt")
