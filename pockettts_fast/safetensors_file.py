"""A strict, memory-mapped reader of safetensors files.

Format (https://huggingface.co/docs/safetensors): 8 bytes little-endian length N, N bytes of JSON that map
a name to ``{"dtype", "shape", "data_offsets"}``, then the data. The offsets count from the end of the
header, cover the data without holes or overlaps, and row-major tensors fill them exactly. Everything is
checked before a byte of data is touched, so a damaged or hostile file ends in one sentence.

Why not ``safetensors.numpy``: it has no bfloat16, keeps no mapping that could be released after the
weights are packed, and its messages name neither the file nor the tensor.
"""

import json
import math
import mmap
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pockettts_fast.errors import MissingFileError, WeightsError

_MAX_HEADER_BYTES = 100_000_000
_BYTES_PER_ELEMENT = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "C64": 8,
}
_INTEGER_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}
_FLOAT_TYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
# Name, type, shape, first byte and end of the data.
_Description = tuple[str, str, tuple[int, ...], int, int]
_FOREIGN_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, as PyTorch's .pt and .bin files are",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"\x1f\x8b": "a gzip archive",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer",
    b"<!DOCTYPE": "an HTML page",
    b"<html": "an HTML page",
}


class TensorView:
    """One tensor of a checkpoint: its type and shape, and its bytes in place.

    Attributes:
        name: the tensor's name, for messages.
        dtype: the safetensors name of the element type, such as ``"F32"`` or ``"BF16"``.
        shape: the dimensions, row-major.
        data: the bytes, uint8 and one-dimensional; read-only when they lie in a mapped file.
        source: where the tensor comes from, for messages.
    """

    __slots__ = ("data", "dtype", "name", "shape", "source")

    def __init__(
        self,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        data: npt.NDArray[np.uint8],
        source: str = "memory",
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.data = data
        self.source = source

    @classmethod
    def from_array(cls, name: str, array: npt.NDArray[Any], source: str = "memory") -> "TensorView":
        """A float32 view of a computed array, which is kept alive by the view."""
        values = np.ascontiguousarray(array, np.float32)
        return cls(name, "F32", values.shape, values.reshape(-1).view(np.uint8), source)

    def __repr__(self) -> str:
        return f"TensorView({self.name!r}, {self.dtype}, {self.shape})"

    def renamed(self, name: str) -> "TensorView":
        """The same bytes under another name."""
        return TensorView(name, self.dtype, self.shape, self.data, self.source)

    @property
    def is_float(self) -> bool:
        """Whether :meth:`to_float32` can convert the elements."""
        return self.dtype in _FLOAT_TYPES or self.dtype == "BF16"

    def to_float32(self) -> npt.NDArray[np.float32]:
        """The values as float32 of ``shape``: without a copy for aligned F32, converted otherwise.

        NaN and infinities pass (see :meth:`is_finite`).

        Raises:
            WeightsError: the elements are not F16, BF16, F32 or F64.
        """
        if self.dtype == "BF16":
            wide = self.data.view("<u2").astype(np.uint32)
            np.left_shift(wide, 16, out=wide)
            widened: npt.NDArray[np.float32] = wide.view(np.float32).reshape(self.shape)
            return widened
        if self.dtype not in _FLOAT_TYPES:
            raise WeightsError(
                f"Tensor {self.name!r} of {self.source} holds {self.dtype} values; F32, F16, BF16 or F64 were expected."
            )
        values: npt.NDArray[Any] = self.data.view(_FLOAT_TYPES[self.dtype]).reshape(self.shape)
        if self.dtype == "F32" and values.flags.aligned:
            return values
        with np.errstate(over="ignore"):  # an F64 beyond float32 becomes an infinity
            return values.astype(np.float32)

    def to_integers(self) -> npt.NDArray[np.int64]:
        """The values as int64 of ``shape``.

        Raises:
            WeightsError: the elements are not integers.
        """
        if self.dtype not in _INTEGER_TYPES:
            raise WeightsError(
                f"Tensor {self.name!r} of {self.source} holds {self.dtype} values; integers were expected."
            )
        return self.data.view(_INTEGER_TYPES[self.dtype]).reshape(self.shape).astype(np.int64)

    def is_finite(self) -> bool:
        """Whether every value is a finite float32; one pass over the bytes, without a large temporary."""
        if self.dtype in ("F16", "BF16"):
            magnitude, infinity = np.uint16(0x7FFF), np.uint16(0x7C00 if self.dtype == "F16" else 0x7F80)
            words = self.data.view("<u2")
            return all(bool(((block & magnitude) < infinity).all()) for block in _blocks(words))
        if self.dtype == "F64":
            limit = float(np.finfo(np.float32).max)
            return all(bool((np.abs(block) <= limit).all()) for block in _blocks(self.data.view("<f8")))
        values = self.to_float32().reshape(-1)
        with np.errstate(invalid="ignore", over="ignore"):
            # A NaN or an infinity always shows in the sum; large finite values may overflow it too.
            suspicious = not np.isfinite(np.add.reduce(values))
        return not suspicious or all(bool(np.isfinite(block).all()) for block in _blocks(values))


class Checkpoint(Mapping[str, TensorView]):
    """The tensors of one open safetensors file, by name in the order of their data.

    The mapping of the file is shared with the views. :meth:`close` gives it back as soon as no view's
    bytes are in use any more. A context manager.
    """

    def __init__(
        self, path: Path, tensors: dict[str, TensorView], metadata: dict[str, str], mapping: mmap.mmap
    ) -> None:
        self.path = path
        self.metadata = metadata
        self._tensors = tensors
        self._mapping: mmap.mmap | None = mapping

    def __getitem__(self, name: str) -> TensorView:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advise_dontneed(self) -> None:
        """Take the file's pages out of this process's resident memory; they come back when touched."""
        if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Forget the tensors and unmap the file; while arrays over it are alive, the last one unmaps it."""
        mapping, self._mapping = self._mapping, None
        self._tensors = {}
        if mapping is not None:
            try:
                mapping.close()
            except BufferError:
                # An array still shows these bytes, and unmapping them would crash it.
                if hasattr(mmap, "MADV_DONTNEED"):
                    mapping.madvise(mmap.MADV_DONTNEED)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Map a safetensors file and check its whole structure.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: it cannot be read, or is no valid safetensors file.
    """
    path = Path(path)
    mapping = _map_file(path)
    try:
        data_start, metadata, described = _parse(path, mapping)
    except BaseException:
        mapping.close()
        raise
    # Views only now: a mapping that is shown by an array cannot be closed.
    buffer = np.frombuffer(mapping, np.uint8)[data_start:]
    tensors = {
        name: TensorView(name, dtype, shape, buffer[begin:end], str(path))
        for name, dtype, shape, begin, end in described
    }
    return Checkpoint(path, tensors, metadata, mapping)


def _map_file(path: Path) -> mmap.mmap:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise WeightsError(f"{path} is a directory; a safetensors file was expected.")
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is no regular file; a safetensors file was expected.")
        with open(path, "rb") as file:
            _refuse_foreign(path, file.read(32))
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as err:
        raise MissingFileError(f"The file {path} does not exist; a safetensors file was expected.") from err
    except WeightsError:
        raise
    except (OSError, ValueError) as err:
        raise WeightsError(f"The file {path} cannot be read: {err}.") from err


def _refuse_foreign(path: Path, beginning: bytes) -> None:
    if beginning[8:9] == b"{":
        # A header length may look like the beginning of something else, but nothing else goes on like this.
        return
    for magic, what in _FOREIGN_BEGINNINGS.items():
        if beginning.startswith(magic):
            raise WeightsError(f"{path} is {what}; only safetensors files are read here.")
    if len(beginning) < 8:
        _fail(path, f"it has {len(beginning)} bytes and a header alone takes more")


def _parse(path: Path, mapping: mmap.mmap) -> tuple[int, dict[str, str], list[_Description]]:
    """Where the data begin, the metadata, and the tensors in the order of their data."""
    available = len(mapping) - 8
    header_bytes = int.from_bytes(mapping[:8], "little")
    if header_bytes > _MAX_HEADER_BYTES:
        _fail(path, f"its header claims {header_bytes} bytes, and {_MAX_HEADER_BYTES} are allowed")
    if header_bytes > available:
        _fail(path, f"its header claims {header_bytes} bytes and {available} follow; it may be truncated")
    entries = _read_header(path, mapping[8 : 8 + header_bytes])
    metadata = _read_metadata(path, entries.pop("__metadata__", {}))
    described = [_read_entry(path, name, entry) for name, entry in entries.items()]
    described.sort(key=lambda item: (item[3], item[4]))

    data_bytes = available - header_bytes
    end_of_previous = 0
    for name, _, _, begin, end in described:
        if end > data_bytes:
            _fail(
                path,
                f"tensor {name!r} ends at byte {end} and there are {data_bytes} of data; it may be truncated",
            )
        if begin != end_of_previous:
            fault = "overlaps the tensor before it" if begin < end_of_previous else "leaves a hole before it"
            _fail(path, f"tensor {name!r} at bytes {begin} to {end} {fault}")
        end_of_previous = end
    if end_of_previous != data_bytes:
        _fail(path, f"it has {data_bytes} bytes of data and its tensors cover {end_of_previous}")
    return 8 + header_bytes, metadata, described


def _read_header(path: Path, raw: bytes) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            _fail(path, f"its header holds {twice!r} twice")
        return result

    if not raw.startswith(b"{"):
        _fail(path, "its header is no JSON object")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as err:
        if isinstance(err, WeightsError):
            raise
        raise WeightsError(f"{path} is no valid safetensors file: its header is no JSON ({err}).") from err
    if not isinstance(header, dict):
        _fail(path, "its header is no JSON object")
    return header


def _read_metadata(path: Path, metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _fail(path, "its __metadata__ is no mapping of text to text")
    return metadata


def _read_entry(path: Path, name: str, entry: Any) -> _Description:
    """Name, type, shape, begin and end of one tensor, each checked on its own."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _fail(path, f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES_PER_ELEMENT:
        _fail(path, f"tensor {name!r} has the unknown type {dtype!r}")
    if not _is_size_list(shape):
        _fail(path, f"tensor {name!r} has the impossible shape {shape!r}")
    if not _is_size_list(offsets) or len(offsets) != 2:
        _fail(path, f"tensor {name!r} has the impossible offsets {offsets!r}")
    begin, end = offsets
    expected = math.prod(shape) * _BYTES_PER_ELEMENT[dtype]
    if end - begin != expected:
        _fail(
            path,
            f"tensor {name!r} spans {end - begin} bytes and its shape {shape} of {dtype} takes {expected}",
        )
    return name, dtype, tuple(shape), begin, end


def _is_size_list(value: Any) -> bool:
    # bool is an int to Python and not to JSON.
    return (
        isinstance(value, list) and len(value) <= 64 and all(type(item) is int and 0 <= item < 2**63 for item in value)
    )


def _fail(path: Path, fault: str) -> NoReturn:
    raise WeightsError(f"{path} is no valid safetensors file: {fault}.")


def _blocks(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Pieces of at most 256 KiB, which stay in a core's own cache."""
    step = 262_144 // values.itemsize
    for start in range(0, len(values), step):
        yield values[start : start + step]
