"""Voice states: files of both formats, and the checks before one is used."""

import os
import sys
import types
import zlib

import numpy as np
import pytest
import safetensors.numpy

from pockettts_fast.config import config_from_dict
from pockettts_fast.errors import MissingFileError, OutputError, VoiceError
from pockettts_fast.testing import save_weights, tiny_config
from pockettts_fast.voice_state import (
    attention_module,
    check_model_state,
    export_model_state,
    read_model_state,
)

CONFIG = config_from_dict(tiny_config(num_kv_heads=2, attn_dim=32), "test")
SHAPE = (2, 1, 9, 2, 8)


def make_state(offset=6, layers=2, shape=SHAPE):
    rng = np.random.default_rng(zlib.crc32(b"make_state"))
    state = {}
    for layer in range(layers):
        cache = rng.standard_normal(shape).astype(np.float32)
        cache[:, :, offset:] = np.nan
        state[attention_module(layer)] = {
            "offset": np.array([offset], np.int64),
            "pad": np.zeros(1, np.int64),
            "cache": cache,
        }
    return state


def test_a_state_survives_a_file(tmp_path):
    state = make_state()
    export_model_state(state, tmp_path / "voice.safetensors")
    back = read_model_state(tmp_path / "voice.safetensors")
    assert back.keys() == state.keys()
    for module, entries in state.items():
        assert back[module].keys() == entries.keys()
        for kind, value in entries.items():
            assert back[module][kind].dtype == value.dtype
            np.testing.assert_array_equal(back[module][kind], value)
            assert back[module][kind].flags.writeable
    assert check_model_state(back, CONFIG) == 6


def test_the_file_has_upstreams_names(tmp_path):
    export_model_state(make_state(), tmp_path / "v.safetensors")
    names = set(safetensors.numpy.load_file(tmp_path / "v.safetensors"))
    assert names == {
        f"transformer.layers.{layer}.self_attn/{kind}" for layer in (0, 1) for kind in ("offset", "pad", "cache")
    }


def test_in_the_legacy_format_the_length_is_the_offset(tmp_path):
    legacy = {}
    for module, entries in make_state(offset=4).items():
        legacy[f"{module}/cache"] = entries["cache"]
        legacy[f"{module}/current_end"] = np.zeros(4, np.float32)
    safetensors.numpy.save_file(legacy, tmp_path / "v.safetensors")
    state = read_model_state(tmp_path / "v.safetensors")
    for entries in state.values():
        assert entries["offset"].dtype == np.int64
        assert entries["offset"].tolist() == [4]
    assert check_model_state(state, CONFIG) == 4


def test_an_empty_current_end_means_nothing_is_filled(tmp_path):
    legacy = {}
    for module, entries in make_state().items():
        legacy[f"{module}/cache"] = entries["cache"]
        legacy[f"{module}/current_end"] = np.zeros(0, np.float32)
    safetensors.numpy.save_file(legacy, tmp_path / "v.safetensors")
    assert check_model_state(read_model_state(tmp_path / "v.safetensors"), CONFIG) == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_caches_become_float32(tmp_path, dtype):
    cache = make_state(offset=9)[attention_module(0)]["cache"]
    save_weights({f"{attention_module(0)}/cache": cache}, tmp_path / "v.safetensors", dtype)
    back = read_model_state(tmp_path / "v.safetensors")[attention_module(0)]["cache"]
    assert back.dtype == np.float32
    # Half a unit in the last place of 11 and of 8 significant bits.
    np.testing.assert_allclose(back, cache, rtol=2.0**-11 if dtype == "float16" else 2.0**-8, atol=2.0**-25)


def test_values_of_another_library_are_written_through_asarray(tmp_path):
    class Foreign:
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return self.values

    state = {m: {k: Foreign(v) for k, v in e.items()} for m, e in make_state().items()}
    export_model_state(state, tmp_path / "v.safetensors")
    assert check_model_state(read_model_state(tmp_path / "v.safetensors"), CONFIG) == 6


def test_a_view_of_a_larger_cache_is_written_as_it_looks(tmp_path):
    state = make_state(offset=3)
    for entries in state.values():
        entries["cache"] = entries["cache"][:, :, :3]
    export_model_state(state, tmp_path / "v.safetensors")
    back = read_model_state(tmp_path / "v.safetensors")
    np.testing.assert_array_equal(back[attention_module(1)]["cache"], state[attention_module(1)]["cache"])


def test_an_export_replaces_a_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "v.safetensors"
    path.write_bytes(b"old")
    export_model_state(make_state(), str(path))
    assert os.listdir(tmp_path) == ["v.safetensors"]
    assert read_model_state(path)


def test_an_export_goes_through_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export_model_state(make_state(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert read_model_state(tmp_path / "real")


def test_an_export_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "v.safetensors"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        export_model_state(make_state(), path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["v.safetensors"]


def test_an_output_that_cannot_be_is_named(tmp_path):
    with pytest.raises(OutputError, match="directory"):
        export_model_state(make_state(), tmp_path)
    with pytest.raises(OutputError, match="No such file"):
        export_model_state(make_state(), tmp_path / "none" / "v.safetensors")
    with pytest.raises(OutputError):
        export_model_state(make_state(), "a\0b")


@pytest.mark.parametrize("state", [{}, {"x": 1}, {"x": {"y": "text"}}, {"x": {"y": object()}}])
def test_what_is_no_state_is_not_written(tmp_path, state):
    with pytest.raises(VoiceError):
        export_model_state(state, tmp_path / "v.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["cache", "a/b/c", "/cache", "a/", "a/strange"])
def test_strange_names_in_a_file_are_refused(tmp_path, name):
    safetensors.numpy.save_file({name: np.zeros(3, np.float32)}, tmp_path / "v.safetensors")
    with pytest.raises(VoiceError, match="no voice state"):
        read_model_state(tmp_path / "v.safetensors")


@pytest.mark.parametrize(
    "tensors",
    [
        {"a/cache": np.zeros(3, np.int32)},
        {"a/offset": np.zeros(1, np.float32)},
        {"a/current_end": np.array(1.0, np.float32)},
        {"a/current_end": np.zeros(2, np.float32), "a/offset": np.zeros(1, np.int64)},
    ],
)
def test_wrong_types_in_a_file_are_refused(tmp_path, tensors):
    safetensors.numpy.save_file(tensors, tmp_path / "v.safetensors")
    with pytest.raises(VoiceError):
        read_model_state(tmp_path / "v.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, (2**40).to_bytes(8, "little") + b"{}", b"PK\x03\x04" + bytes(60)]
)
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "v.safetensors"
    path.write_bytes(content)
    with pytest.raises(VoiceError, match=r"v\.safetensors"):
        read_model_state(path)


def test_a_truncated_file_is_refused_at_every_length(tmp_path):
    export_model_state(make_state(), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "v.safetensors"
    for length in [*range(0, 900, 7), *range(900, len(content), 331)]:
        path.write_bytes(content[:length])
        with pytest.raises(VoiceError):
            read_model_state(path)


def test_a_missing_file_and_a_directory_are_told_apart(tmp_path):
    with pytest.raises(MissingFileError):
        read_model_state(tmp_path / "none.safetensors")
    with pytest.raises(VoiceError, match="directory"):
        read_model_state(tmp_path)


def broken(change):
    state = make_state()
    change(state, state[attention_module(1)])
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, e: s.pop(attention_module(1)), "another model: it has 1 layers, and this model has 2"),
        (lambda s, e: s.update({attention_module(2): e}), "another model: it has 3 layers"),
        (lambda s, e: s.update({attention_module(7): s.pop(attention_module(1))}), "another model: it holds"),
        (lambda s, e: s.update({"decoder.model.0": {}}), "decoder.model.0"),
        (lambda s, e: e.update(cache=np.zeros((2, 1, 9, 1, 8), np.float32)), r"another model.*9, 1, 8\]"),
        (lambda s, e: e.update(cache=np.zeros((2, 1, 9, 2, 16), np.float32)), r"positions, 2, 8\]"),
        (lambda s, e: e.update(cache=np.zeros((2, 3, 9, 2, 8), np.float32)), "another model"),
        (lambda s, e: e.update(cache=np.zeros(SHAPE, np.int64)), "int64"),
        (lambda s, e: e.pop("cache"), "no cache"),
        (lambda s, e: e.pop("offset"), "no offset"),
        (lambda s, e: e.update(offset=np.array([10])), "claims 10 positions and its cache has 9"),
        (lambda s, e: e.update(offset=np.array([-1])), "claims -1"),
        (lambda s, e: e.update(offset=np.array([5])), "claim 5 and 6"),
        (lambda s, e: e.update(offset=np.array([6, 6])), "one integer"),
        (lambda s, e: e.update(offset=np.array([6.0])), "one integer"),
        (lambda s, e: e.update(pad=np.array([2])), "padding"),
        (lambda s, e: e["cache"].__setitem__((1, 0, 5, 0, 0), np.nan), "NaN"),
        (lambda s, e: e["cache"].__setitem__((0, 0, 0, 0, 0), np.inf), "NaN or infinite"),
    ],
)
def test_a_state_that_does_not_fit_says_why(change, message):
    with pytest.raises(VoiceError, match=message):
        check_model_state(broken(change), CONFIG)


@pytest.mark.parametrize("state", [None, 3, {"a": 3}, []])
def test_what_is_no_mapping_is_refused(state):
    with pytest.raises(VoiceError):
        check_model_state(state, CONFIG)


def test_a_state_without_pad_and_nan_beyond_the_offset_are_legal():
    state = make_state(offset=0)
    for entries in state.values():
        del entries["pad"]
    assert check_model_state(state, CONFIG) == 0


def test_the_facts_of_a_plain_namespace_are_enough():
    transformer = types.SimpleNamespace(num_layers=2, num_heads=4, num_kv_heads=2, attn_dim=32, d_model=16)
    config = types.SimpleNamespace(flow_lm=types.SimpleNamespace(transformer=transformer))
    assert check_model_state(make_state(), config) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_leaves_no_file_mapped(tmp_path):
    export_model_state(make_state(), tmp_path / "v.safetensors")
    read_model_state(tmp_path / "v.safetensors")
    with open("/proc/self/maps") as maps:
        assert str(tmp_path) not in maps.read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "voice.safetensors"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        export_model_state(make_state(), pipe)
        assert pipe.is_fifo()
        assert os.read(reader, 1 << 16)
    finally:
        os.close(reader)
