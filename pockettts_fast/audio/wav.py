"""Writing 16-bit mono WAV: files that appear whole or not at all, and streams that play while they grow."""

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import stat
import struct
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pockettts_fast.audio._dsp import float_to_int16
from pockettts_fast.errors import AudioError, OutputError

# Upstream's writer ends every file with this much silence, "to ensure proper playback".
UPSTREAM_TAIL_SILENCE_S = 0.2

HEADER_BYTES = 44
_UNKNOWN_SIZE = 0xFFFFFFFF
# The RIFF size, a 32-bit number, counts the audio and the 36 header bytes behind itself.
MAX_DATA_BYTES = 0xFFFFFFFF - (HEADER_BYTES - 8)

_STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR_PATH = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})")


def wav_header(sample_rate: int, data_bytes: int | None = None) -> bytes:
    """The 44 bytes in front of 16-bit mono PCM; `data_bytes` None (not known yet) gives 0xFFFFFFFF sizes."""
    if not 1 <= sample_rate <= 0x7FFFFFFF:
        raise AudioError(f"A WAV needs a sample rate of at least 1 Hz, got {sample_rate}.")
    if data_bytes is not None and not 0 <= data_bytes <= MAX_DATA_BYTES:
        raise AudioError(f"A WAV holds at most {MAX_DATA_BYTES} bytes of audio, got {data_bytes}.")
    riff_size = _UNKNOWN_SIZE if data_bytes is None else data_bytes + HEADER_BYTES - 8
    data_size = _UNKNOWN_SIZE if data_bytes is None else data_bytes
    fmt = struct.pack("<IHHIIHH", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    return b"".join((b"RIFF", struct.pack("<I", riff_size), b"WAVEfmt ", fmt, b"data", struct.pack("<I", data_size)))


def pcm16_bytes(audio: npt.ArrayLike) -> bytes:
    """Little-endian 16-bit PCM of float samples [T], rounded as upstream's writer does (`float_to_int16`)."""
    array = np.asarray(audio)
    if array.ndim != 1 or array.dtype.kind != "f":
        raise AudioError(f"Audio to write is a 1-D float array, got {array.dtype} of shape {array.shape}.")
    samples = float_to_int16(np.ascontiguousarray(array, dtype=np.float32))
    return samples.astype("<i2", copy=False).tobytes()


class WavWriter:
    """Writes float chunks [T] within -1..1 as one 16-bit mono WAV.

    `target` is a path, ``"-"`` for standard output, or a binary stream (left open at the end).

    - A path to a regular file is written under a hidden temporary name in the same folder and takes its
      final name in :meth:`close`, with exact sizes. Until then an earlier file of that name is untouched;
      :meth:`discard` leaves nothing behind. Symbolic links are followed.
    - Devices, FIFOs and ``/dev/fd/N`` paths are written directly. Every chunk is flushed. Where seeking
      back is possible the sizes are corrected at the end, elsewhere they stay 0xFFFFFFFF.

    As a context manager it closes on a clean exit and discards on any exception, Ctrl-C included.
    `tail_silence_s` seconds of zeros end the audio (upstream: `UPSTREAM_TAIL_SILENCE_S`). The target is
    opened by the constructor, so a target that cannot be written is found before audio is made.

    Raises :class:`OutputError` whenever the target cannot be opened or written, with the `errno` of the
    cause (EPIPE for a reader that went away), and before a file would pass the 4 GiB of the format.
    """

    def __init__(
        self, target: str | os.PathLike[str] | BinaryIO, sample_rate: int, *, tail_silence_s: float = 0.0
    ) -> None:
        header = wav_header(sample_rate)
        if not 0.0 <= tail_silence_s <= 60.0:
            raise AudioError(f"The silence at the end lies between 0 and 60 s, got {tail_silence_s}.")
        self.sample_rate = sample_rate
        self._tail = bytes(2 * int(sample_rate * tail_silence_s))
        self._data_bytes = 0
        self._temporary: str | None = None
        self._final: str | None = None
        self._owned = False
        self._closed = True
        self._header_at: int | None = None
        if isinstance(target, (str, os.PathLike)):
            self._name = os.fspath(target)
            with _reporting(self._name):
                self._stream = self._open_path(self._name)
        else:
            self._name = str(getattr(target, "name", "the output stream"))
            self._stream = target
        self._closed = False
        try:
            with _reporting(self._name):
                self._header_at = _patchable_position(self._stream)
                self._put(header)
        except BaseException:
            self.discard()
            raise

    @property
    def samples_written(self) -> int:
        """Samples written so far; after :meth:`close` including the silence at the end."""
        return self._data_bytes // 2

    def write(self, audio: npt.ArrayLike) -> None:
        """Append float samples [T]; a stream has them when this returns."""
        self._append(pcm16_bytes(audio), reserved=len(self._tail))

    def close(self) -> None:
        """Finish: silence at the end, sizes, final name. Does nothing after the first call or a discard."""
        if self._closed:
            return
        try:
            self._append(self._tail, reserved=0)
            with _reporting(self._name):
                self._patch_sizes()
                if self._owned:
                    self._stream.close()
                if self._temporary is not None and self._final is not None:
                    os.replace(self._temporary, self._final)
                    self._temporary = None
            self._closed = True
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Give up: an owned target is closed and the temporary file removed. Never raises an I/O error."""
        self._closed = True
        if self._owned:
            with contextlib.suppress(OSError, ValueError):
                self._stream.close()
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = None

    def __enter__(self) -> "WavWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        # A constructor that failed may have set nothing.
        if not getattr(self, "_closed", True):
            self.discard()

    def _open_path(self, name: str) -> BinaryIO:
        if name == "-":
            if sys.stdout is None:
                raise OutputError("Standard output is closed; write to a file instead.")
            return sys.stdout.buffer
        self._owned = True
        descriptor = _named_descriptor(name)
        if descriptor is not None:
            return open(os.dup(descriptor), "wb", buffering=0)
        if not name or name.endswith(os.sep) or os.path.isdir(name):
            raise OutputError(f"{name!r} is a directory; give the name of a file to write.")
        final = os.path.realpath(name)
        try:
            existing = os.stat(final)
        except FileNotFoundError:
            folder = os.path.dirname(final)
            if not os.path.isdir(folder):
                raise OutputError(f"{name!r} cannot be written: the folder {folder!r} does not exist.") from None
            mode = None
        else:
            if not stat.S_ISREG(existing.st_mode):
                return open(final, "wb", buffering=0)
            # Replacing needs no permission on the file itself, so a protected one has to be asked about.
            if not os.access(final, os.W_OK):
                raise OutputError(f"{name!r} cannot be written: the file is read-only.")
            mode = stat.S_IMODE(existing.st_mode)
        self._final = final
        return self._open_temporary(os.path.dirname(final), mode)

    def _open_temporary(self, folder: str, mode: int | None) -> BinaryIO:
        # Not tempfile: that creates 0600, and the final file has to follow the umask or the file it replaces.
        temporary = os.path.join(folder, f".{secrets.token_hex(8)}.wav.part")
        # Known to discard() before it exists: a signal may arrive between the two lines.
        self._temporary = temporary
        try:
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError:
            self._temporary = None
            raise
        if mode is not None:
            with contextlib.suppress(OSError):
                os.chmod(temporary, mode)
        return open(descriptor, "wb")

    def _append(self, data: bytes, *, reserved: int) -> None:
        if self._closed:
            raise OutputError(f"{self._name!r} is already closed; audio cannot be added.")
        total = self._data_bytes + len(data)
        if self._header_at is not None and total + reserved > MAX_DATA_BYTES:
            raise OutputError(f"{self._name!r} would pass the 4 GiB that a WAV can hold; split the output.")
        with _reporting(self._name):
            self._put(data)
        self._data_bytes = total

    def _put(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while rest:
            count = self._stream.write(rest)
            if not isinstance(self._stream, io.RawIOBase):
                break
            # Raw streams may take a part, and nothing at all when they do not block.
            if not count:
                raise BlockingIOError(errno.EAGAIN, "the stream does not wait for its reader")
            rest = memoryview(rest)[count:]
        # A temporary file has no reader yet.
        if self._temporary is None:
            flush = getattr(self._stream, "flush", None)
            if flush is not None:
                flush()

    def _patch_sizes(self) -> None:
        if self._header_at is not None:
            try:
                self._stream.seek(self._header_at)
            except OSError:
                # Some streams that call themselves seekable (gzip) only go forward; their header stays open.
                if self._temporary is not None:
                    raise
                return
            self._put(wav_header(self.sample_rate, self._data_bytes))
            self._stream.seek(self._header_at + HEADER_BYTES + self._data_bytes)


def write_wav(
    target: str | os.PathLike[str] | BinaryIO,
    audio: npt.ArrayLike,
    sample_rate: int,
    *,
    tail_silence_s: float = 0.0,
) -> None:
    """Write float samples [T] as one 16-bit mono WAV; see :class:`WavWriter`."""
    with WavWriter(target, sample_rate, tail_silence_s=tail_silence_s) as writer:
        writer.write(audio)


@contextlib.contextmanager
def _reporting(name: str) -> Iterator[None]:
    """Turn what the operating system or a closed stream says into an :class:`OutputError` with its errno."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        error = OutputError(f"{name!r} cannot be written ({reason}).")
        if isinstance(err, OSError):
            error.errno = err.errno
        raise error from err


def _named_descriptor(name: str) -> int | None:
    """The descriptor that a path like /dev/stdout or /dev/fd/3 names.

    Opening such a path anew would truncate a file behind it, or start again at its beginning.
    """
    path = os.path.abspath(name)
    if path in _STANDARD_STREAMS:
        return _STANDARD_STREAMS[path]
    match = _DESCRIPTOR_PATH.fullmatch(path)
    return int(match.group(1)) if match else None


def _patchable_position(stream: BinaryIO) -> int | None:
    """Where the header will be if it can be rewritten later, otherwise None (pipes, append mode)."""
    try:
        if not stream.seekable():
            return None
        position = stream.tell()
    except (AttributeError, OSError):
        return None
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):
        return position
    # In append mode a corrected header would land behind the audio.
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    return position
