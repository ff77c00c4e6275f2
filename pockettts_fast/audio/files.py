"""Reading audio files of any format into mono float32 samples.

16-bit PCM WAV is read here; everything else goes through libsndfile (the `soundfile` package). The
numbers are those of upstream's `data/audio.py`. Files are decoded in blocks and averaged to mono at once,
so memory follows the limits below and not what a header claims.
"""

import math
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from pockettts_fast.errors import AudioError, DependencyError, MissingFileError

if TYPE_CHECKING:
    import soundfile

MIN_SAMPLE_RATE = 1_000
MAX_SAMPLE_RATE = 768_000
MAX_CHANNELS = 64
# Limits on what is decoded, whatever the header says: 20 minutes, 512 MiB of mono float32, and for
# formats that are decoded in one piece 1 GiB before the channels are averaged.
MAX_SECONDS = 20 * 60
MAX_FRAMES = 1 << 27
_MAX_SAMPLES_TOGETHER = 1 << 28

# Samples (frames x channels) decoded at a time: 1 MiB of float32.
_BLOCK_SAMPLES = 1 << 18

# Subtypes whose decoder needs no past, and FLAC's, whose seeking is exact.
_EXACT_AFTER_SEEK = frozenset(("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"))

_FORMAT_PCM = 0x0001
_FORMAT_EXTENSIBLE = 0xFFFE
# The last 14 bytes of the sub-format GUIDs that carry a plain format tag in their first two bytes.
_TAG_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")

_Blocks = Iterator[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class _Pcm16:
    """Where the samples of a 16-bit PCM WAV are: `size` bytes from `start`, never beyond the file."""

    sample_rate: int
    channels: int
    start: int
    size: int


def read_audio(path: str | os.PathLike[str], max_seconds: float | None = None) -> tuple[npt.NDArray[np.float32], int]:
    """Read an audio file -> (mono float32 [T], sample rate in Hz), T >= 1, every sample finite.

    16-bit values are divided by 32768; channels are averaged in float32. The format is found from the
    content, not from the name. A WAV whose sizes are wrong (0xFFFFFFFF from a pipe, or beyond a truncated
    file) gives the whole frames that are there. With `max_seconds`, decoding stops after
    int(max_seconds * rate) frames (one at least). More than 20 minutes, or `MAX_FRAMES`, is an error, found
    while decoding.

    Raises :class:`MissingFileError` when there is no such file and :class:`AudioError` when it is not a
    regular readable file, not audio, holds no or non-finite samples, has a rate outside of
    [1000, 768000] Hz or more than 64 channels, or is too long.
    """
    name = os.fspath(path)
    if max_seconds is not None and not (math.isfinite(max_seconds) and max_seconds > 0):
        raise AudioError(f"The number of seconds to read has to be positive, got {max_seconds}.")
    with _open_regular(name) as file:
        try:
            pcm = _find_pcm16(file)
            if pcm is None:
                return _read_with_soundfile(name, file, max_seconds)
            _check_format(name, pcm.sample_rate, pcm.channels)
            return _collect(name, _pcm16_blocks(file, pcm), pcm.sample_rate, max_seconds), pcm.sample_rate
        except OSError as err:
            raise AudioError(f"The audio file {name!r} cannot be read ({err.strerror or err}).") from err


def _open_regular(name: str) -> BinaryIO:
    try:
        # Opening a pipe would block, and a device may never end.
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            return open(name, "rb")
    except FileNotFoundError as err:
        raise MissingFileError(f"There is no audio file {name!r}; check the path.") from err
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        raise AudioError(f"The audio file {name!r} cannot be opened ({reason}).") from err
    kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
    raise AudioError(f"{name!r} is {kind}; an audio file is expected.")


def _check_format(name: str, sample_rate: int, channels: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"The audio file {name!r} claims a sample rate of {sample_rate} Hz; "
            f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz can be read."
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"The audio file {name!r} claims {channels} channels; 1 to {MAX_CHANNELS} can be read.")


def _find_pcm16(file: BinaryIO) -> _Pcm16 | None:
    """The layout of a little-endian 16-bit PCM WAV, or None for everything that libsndfile should judge.

    The RIFF size is ignored, since streaming writers leave it wrong. As in Python's `wave` module, the
    sample width is the bit depth rounded up to bytes and the block alignment is derived, not trusted.
    """
    file_size = os.fstat(file.fileno()).st_size
    start = file.read(12)
    if len(start) < 12 or start[:4] != b"RIFF" or start[8:] != b"WAVE":
        return None
    layout: tuple[int, int] | None = None
    while True:
        header = file.read(8)
        if len(header) < 8:
            return None
        chunk, size = struct.unpack("<4sI", header)
        position = file.tell()
        if chunk == b"fmt ":
            layout = _pcm16_layout(file.read(min(size, 40)))
            if layout is None:
                return None
        elif chunk == b"data":
            if layout is None:
                return None
            return _Pcm16(*layout, start=position, size=min(size, file_size - position))
        file.seek(min(position + size + size % 2, file_size))


def _pcm16_layout(fmt: bytes) -> tuple[int, int] | None:
    """(sample rate, channels) of a `fmt ` chunk that describes 16-bit PCM, otherwise None."""
    if len(fmt) < 16:
        return None
    tag, channels, sample_rate, _, _, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _FORMAT_EXTENSIBLE and len(fmt) >= 40 and fmt[26:40] == _TAG_GUID_TAIL:
        tag = struct.unpack_from("<H", fmt, 24)[0]
    if tag != _FORMAT_PCM or (bits + 7) // 8 != 2:
        return None
    return sample_rate, channels


def _pcm16_blocks(file: BinaryIO, pcm: _Pcm16) -> Callable[[int], _Blocks]:
    def blocks(limit: int) -> _Blocks:
        file.seek(pcm.start)
        frame_bytes = 2 * pcm.channels
        left = min(pcm.size // frame_bytes, limit)
        while left > 0:
            raw = file.read(frame_bytes * min(left, max(1, _BLOCK_SAMPLES // pcm.channels)))
            frames = len(raw) // frame_bytes
            if frames == 0:
                return
            left -= frames
            values = np.frombuffer(raw, dtype="<i2", count=frames * pcm.channels)
            yield (values.astype(np.float32) / np.float32(32768.0)).reshape(frames, pcm.channels)

    return blocks


def _read_with_soundfile(name: str, file: BinaryIO, max_seconds: float | None) -> tuple[npt.NDArray[np.float32], int]:
    try:
        import soundfile
    except (ImportError, OSError) as err:
        raise DependencyError(
            f"Reading {name!r} needs the soundfile package with libsndfile, which cannot be loaded ({err}); "
            "install soundfile, or convert the file to a 16-bit WAV."
        ) from err

    try:
        # By descriptor: libsndfile then neither guesses from the name nor has to encode it. It reads from
        # where the descriptor stands, which seeking in Python's buffer does not move.
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            _check_format(name, sound.samplerate, sound.channels)
            blocks = _decoded_blocks(name, sound)
            return _collect(name, blocks, sound.samplerate, max_seconds), sound.samplerate
    except (soundfile.SoundFileError, RuntimeError, TypeError) as err:
        raise AudioError(
            f"{name!r} is not an audio file that can be read ({err}); "
            "WAV, FLAC, OGG, MP3 and other formats of libsndfile are expected."
        ) from err


def _decoded_blocks(name: str, sound: "soundfile.SoundFile") -> Callable[[int], _Blocks]:
    # Every read of soundfile ends with a seek, after which MP3, Opus and the like decode other samples:
    # those are read at once, in memory bounded by `limit`.
    together = sound.subtype not in _EXACT_AFTER_SEEK

    def blocks(limit: int) -> _Blocks:
        if together and min(limit, sound.frames) * sound.channels > _MAX_SAMPLES_TOGETHER:
            raise AudioError(f"The audio file {name!r} is too long for its {sound.channels} channels; cut it.")
        if sound.seekable():
            # As soundfile.read does: a fresh MP3 decoder and a rewound one differ in the last bit.
            sound.seek(0)
        left = limit
        while left > 0:
            wanted = left if together else min(left, max(1, _BLOCK_SAMPLES // sound.channels))
            block = sound.read(wanted, dtype="float32", always_2d=True)
            if len(block) == 0:
                return
            left -= len(block)
            yield block
            if together:
                return

    return blocks


def _collect(
    name: str, blocks: Callable[[int], _Blocks], sample_rate: int, max_seconds: float | None
) -> npt.NDArray[np.float32]:
    """Average the channels of blocks [frames, C] and join them, within the limits on length and values."""
    most = min(MAX_SECONDS * sample_rate, MAX_FRAMES)
    wanted = most + 1
    if max_seconds is not None:
        wanted = max(1, int(min(wanted, max_seconds * sample_rate)))
    parts: list[npt.NDArray[np.float32]] = []
    frames = 0
    for block in blocks(wanted):
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise AudioError(f"The audio file {name!r} holds NaN or infinite samples; export it again.")
        frames += mono.size
        parts.append(mono)
    if frames > most:
        raise AudioError(
            f"The audio file {name!r} is longer than {most / sample_rate:.0f} s; cut it, or read only its beginning."
        )
    if frames == 0:
        raise AudioError(f"The audio file {name!r} holds no samples.")
    return np.ascontiguousarray(np.concatenate(parts))
