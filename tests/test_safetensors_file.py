"""Reading safetensors files: what comes back, and what a damaged or lying file is told."""

import gc
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from pockettts_fast.errors import MissingFileError, WeightsError
from pockettts_fast.safetensors_file import TensorView, open_checkpoint
from pockettts_fast.testing import save_weights


def file_of(path: Path, header, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def test_tensors_come_back_with_type_shape_and_values(tmp_path, rng):
    import safetensors.numpy

    tensors = {
        "half": rng.standard_normal((3, 4)).astype(np.float16),
        "single": rng.standard_normal((2, 3, 5)).astype(np.float32),
        "double": rng.standard_normal(7),
        "scalar": np.array(2.5, np.float32),
        "empty": np.empty((0, 3), np.float32),
    }
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata={"who": "test"})
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint) == set(tensors)
        assert checkpoint.metadata == {"who": "test"}
        for name, values in tensors.items():
            got = checkpoint[name].to_float32()
            assert got.shape == values.shape
            np.testing.assert_array_equal(got, values.astype(np.float32))


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    values = np.array([1.0, -2.5, 3.140625, 0.0, 1e30], np.float32)
    path = tmp_path / "b.safetensors"
    save_weights({"x": values}, path, "bfloat16")
    view = open_checkpoint(path)["x"]
    assert view.dtype == "BF16"
    # 8 significant bits: half a unit in the last place is at most 2**-8 of the value.
    np.testing.assert_allclose(view.to_float32(), values, rtol=2.0**-8)
    np.testing.assert_array_equal(view.to_float32().view(np.uint32) & 0xFFFF, 0)


def test_float32_is_not_copied_and_cannot_be_written(tmp_path):
    path = tmp_path / "c.safetensors"
    save_weights({"x": np.ones(8, np.float32)}, path)
    view = open_checkpoint(path)["x"]
    assert np.shares_memory(view.to_float32(), view.data)
    assert not view.to_float32().flags.writeable


def test_unaligned_data_are_read(tmp_path):
    data = np.array([1.5, -2.5], "<f4").tobytes()
    header = json.dumps({"x": entry()}).encode()
    path = file_of(tmp_path / "u.safetensors", header + b" " * (1 - len(header) % 4 + 4), data)
    np.testing.assert_array_equal(open_checkpoint(path)["x"].to_float32(), [1.5, -2.5])


def test_a_closed_checkpoint_leaves_arrays_alive_until_they_are_gone(tmp_path):
    path = tmp_path / "d.safetensors"
    save_weights({"x": np.arange(4096, dtype=np.float32)}, path)
    checkpoint = open_checkpoint(path)
    values = checkpoint["x"].to_float32()
    checkpoint.advise_dontneed()
    checkpoint.close()
    checkpoint.close()
    assert len(checkpoint) == 0
    np.testing.assert_array_equal(values, np.arange(4096))
    del values
    gc.collect()
    if sys.platform == "linux":
        assert str(path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("header", "data", "fault"),
    [
        ({"x": entry(offsets=(0, 8))}, b"1234567", "truncated"),
        ({"x": entry(offsets=(8, 16))}, bytes(16), "hole"),
        ({"x": entry(), "y": entry(offsets=(4, 12))}, bytes(12), "overlaps"),
        ({"x": entry(), "y": entry(offsets=(12, 20))}, bytes(20), "hole"),
        ({"x": entry()}, bytes(12), "cover 8"),
        ({"x": entry(shape=(3,))}, bytes(8), "takes 12"),
        ({"x": entry(offsets=(8, 0))}, bytes(8), "spans -8"),
        ({"x": entry(shape=(2**40, 2**40))}, bytes(8), "takes"),
        ({"x": entry(shape=(-2,))}, bytes(8), "impossible shape"),
        ({"x": entry(shape=(2.0,))}, bytes(8), "impossible shape"),
        ({"x": entry(shape=(True, 2))}, bytes(8), "impossible shape"),
        ({"x": entry(offsets=(0, 2**70))}, bytes(8), "impossible offsets"),
        ({"x": entry(offsets=(-8, 0))}, bytes(8), "impossible offsets"),
        ({"x": entry(offsets=(0, 8, 8))}, bytes(8), "impossible offsets"),
        ({"x": entry(dtype="F99")}, bytes(8), "unknown type"),
        ({"x": entry(dtype=["F32"])}, bytes(8), "unknown type"),
        ({"x": {"dtype": "F32"}}, bytes(8), "not described"),
        ({"x": [1]}, bytes(8), "not described"),
        ({"x": entry() | {"more": 1}}, bytes(8), "not described"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
        (b'{"x": 1, "x": 2}', b"", "twice"),
        (b"{", b"", "JSON"),
        (b"[]", b"", "no JSON object"),
        (b' {"x": 1}', b"", "no JSON object"),
        (b'{"\xff": 1}', b"", "JSON"),
        (b'{"x": ' + b"[" * 100_000, b"", "JSON"),
    ],
)
def test_a_lying_header_is_named(tmp_path, header, data, fault):
    path = file_of(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(WeightsError, match=fault) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overlapping_offsets_name_the_tensor(tmp_path):
    path = file_of(tmp_path / "bad.safetensors", {"x": entry(), "y": entry(offsets=(4, 12))}, bytes(12))
    with pytest.raises(WeightsError, match="'y'"):
        open_checkpoint(path)


@pytest.mark.parametrize("length", [3, 10**8 + 1, 2**63, 2**64 - 1])
def test_a_header_length_that_cannot_be_is_refused(tmp_path, length):
    path = file_of(tmp_path / "bad.safetensors", b"{}", b"", length)
    with pytest.raises(WeightsError, match="header claims"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"\x80\x04\x95" + bytes(40), "pickle"),
        (b"\x80\x02}q\x00." + bytes(40), "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"", "0 bytes"),
        (b"1234567", "7 bytes"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, content, what):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=what):
        open_checkpoint(path)


def test_a_header_length_that_looks_like_a_pickle_is_no_pickle(tmp_path):
    raw = json.dumps({"x": entry()}).encode()
    path = file_of(tmp_path / "a.safetensors", raw + b" " * (0x0280 - len(raw)), bytes(8))
    assert path.read_bytes().startswith(b"\x80\x02")
    assert list(open_checkpoint(path)) == ["x"]


def test_a_missing_file_and_a_directory_have_their_own_errors(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        open_checkpoint(tmp_path / "nowhere.safetensors")
    with pytest.raises(WeightsError, match="directory"):
        open_checkpoint(tmp_path)


def test_integers_are_refused_where_floats_are_expected(tmp_path):
    path = file_of(tmp_path / "i.safetensors", {"x": entry(dtype="I32")}, bytes(8))
    with pytest.raises(WeightsError, match=r"'x'.*I32"):
        open_checkpoint(path)["x"].to_float32()
    with pytest.raises(WeightsError, match="integers"):
        TensorView.from_array("y", np.ones(2)).to_integers()


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_anywhere_is_found(dtype, bad):
    def view(values):
        if dtype == "BF16":
            raw = (np.asarray(values, np.float32).view(np.uint32) >> 16).astype("<u2")
        else:
            raw = np.asarray(values).astype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype])
        return TensorView("x", dtype, (len(values),), raw.view(np.uint8))

    values = np.ones(300_000)
    assert view(values).is_finite()
    for position in (0, 150_001, 299_999):
        values[:] = 1.0
        values[position] = bad
        assert not view(values).is_finite()


def test_large_finite_values_are_finite():
    values = np.full(1000, 3e38, np.float32)
    assert TensorView.from_array("x", values).is_finite()
    beyond = np.array([1e300])
    assert not TensorView("x", "F64", (1,), beyond.view(np.uint8)).is_finite()
