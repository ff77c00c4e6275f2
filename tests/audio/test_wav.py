"""Writing WAV: whole files or none, and streams that can be read while they grow."""

import errno
import gzip
import io
import os
import stat
import struct
import subprocess
import sys
import threading
import wave
from pathlib import Path

import numpy as np
import pytest

from pockettts_fast.audio import wav
from pockettts_fast.audio._dsp import float_to_int16
from pockettts_fast.audio.files import read_audio
from pockettts_fast.audio.wav import (
    HEADER_BYTES,
    MAX_DATA_BYTES,
    UPSTREAM_TAIL_SILENCE_S,
    WavWriter,
    pcm16_bytes,
    wav_header,
    write_wav,
)
from pockettts_fast.errors import AudioError, OutputError

RATE = 24000


@pytest.fixture
def audio(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, 2500).astype(np.float32)


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *args: object) -> int:
        raise io.UnsupportedOperation("seek")


class OneByteAtATime(io.RawIOBase):
    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(memoryview(data)[:7])  # type: ignore[call-overload]
        return min(7, len(memoryview(data)))  # type: ignore[call-overload]


def sizes(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<I", data, 4)[0], struct.unpack_from("<I", data, 40)[0]


# --- files --------------------------------------------------------------------------------------------


def test_a_file_has_exact_sizes_and_the_samples(tmp_path: Path, audio: np.ndarray) -> None:
    path = tmp_path / "out.wav"
    with WavWriter(path, RATE) as writer:
        for part in np.split(audio, [0, 1, 1000]):
            writer.write(part)
        assert writer.samples_written == audio.size
    data = path.read_bytes()
    assert sizes(data) == (len(data) - 8, len(data) - 44)
    assert data[44:] == float_to_int16(audio).astype("<i2").tobytes()
    with wave.open(str(path)) as reader:
        assert reader.getparams()[:4] == (1, 2, RATE, audio.size)
    assert os.listdir(tmp_path) == ["out.wav"]


def test_any_chunking_gives_the_same_file(tmp_path: Path, audio: np.ndarray, rng: np.random.Generator) -> None:
    write_wav(tmp_path / "whole.wav", audio, RATE)
    with WavWriter(tmp_path / "parts.wav", RATE) as writer:
        for part in np.split(audio, np.sort(rng.integers(0, audio.size, 20))):
            writer.write(part)
    assert (tmp_path / "parts.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_tail_silence_is_added_once(tmp_path: Path, audio: np.ndarray) -> None:
    with WavWriter(tmp_path / "out.wav", RATE, tail_silence_s=UPSTREAM_TAIL_SILENCE_S) as writer:
        writer.write(audio)
        writer.close()
        writer.close()
    read, _ = read_audio(tmp_path / "out.wav")
    assert read.size == writer.samples_written == audio.size + 4800
    assert not read[audio.size :].any()


def test_no_audio_is_a_valid_empty_file(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "out.wav", RATE):
        pass
    with wave.open(str(tmp_path / "out.wav")) as reader:
        assert reader.getnframes() == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, SystemExit])
def test_an_exception_leaves_nothing_behind(tmp_path: Path, audio: np.ndarray, error: type[BaseException]) -> None:
    def speak() -> None:
        with WavWriter(tmp_path / "out.wav", RATE) as writer:
            writer.write(audio)
            raise error

    with pytest.raises(error):
        speak()
    assert os.listdir(tmp_path) == []


def test_an_earlier_file_stays_until_the_new_one_is_complete(tmp_path: Path, audio: np.ndarray) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"earlier")
    writer = WavWriter(path, RATE)
    writer.write(audio)
    assert path.read_bytes() == b"earlier"
    writer.discard()
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["out.wav"]
    write_wav(path, audio, RATE)
    assert path.read_bytes()[:4] == b"RIFF"
    assert os.listdir(tmp_path) == ["out.wav"]


def test_a_dropped_writer_leaves_nothing_behind(tmp_path: Path, audio: np.ndarray) -> None:
    writer = WavWriter(tmp_path / "out.wav", RATE)
    writer.write(audio)
    del writer
    assert os.listdir(tmp_path) == []


def test_a_closed_or_discarded_writer_takes_no_more(tmp_path: Path, audio: np.ndarray) -> None:
    for finish in (WavWriter.close, WavWriter.discard):
        writer = WavWriter(tmp_path / "out.wav", RATE)
        finish(writer)
        with pytest.raises(OutputError, match="already closed"):
            writer.write(audio)


def test_the_mode_follows_the_umask_or_the_earlier_file(tmp_path: Path, audio: np.ndarray) -> None:
    path = tmp_path / "out.wav"
    before = os.umask(0o027)
    try:
        write_wav(path, audio, RATE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    write_wav(path, audio, RATE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_symbolic_link_is_followed(tmp_path: Path, audio: np.ndarray) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.wav"
    link.symlink_to(Path("real") / "out.wav")
    write_wav(link, audio, RATE)
    assert link.is_symlink()
    assert (tmp_path / "real" / "out.wav").stat().st_size == 44 + 2 * audio.size
    assert os.listdir(tmp_path / "real") == ["out.wav"]


@pytest.mark.parametrize("name", ["with space.wav", "Grüße-日本語-🎤.wav", "x" * 251 + ".wav", "no_suffix"])
def test_any_name_works(tmp_path: Path, audio: np.ndarray, name: str) -> None:
    if len(os.fsencode(name)) > 255:
        pytest.skip("longer than this file system allows")
    for given in (tmp_path / name, str(tmp_path / name)):
        write_wav(given, audio, RATE)
    assert os.listdir(tmp_path) == [name]


def test_a_relative_name_survives_a_change_of_folder(
    tmp_path: Path, audio: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with WavWriter("out.wav", RATE) as writer:
        writer.write(audio)
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "out.wav"]


# --- targets that cannot be written -------------------------------------------------------------------


def test_unwritable_targets_are_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for target, words in (
        (tmp_path, "is a directory"),
        (f"{tmp_path}/new/", "is a directory"),
        ("", "is a directory"),
        (tmp_path / "missing" / "out.wav", "does not exist"),
        (tmp_path / "file" / "out.wav", "cannot be written"),
        (tmp_path / "loop", "cannot be written"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (tmp_path / "nul\0byte", "cannot be written"),
        (tmp_path / "lone\ud800", "cannot be written"),
        ("/dev/fd/987654", "cannot be written"),
    ):
        with pytest.raises(OutputError, match=words) as caught:
            WavWriter(target, RATE)
        assert isinstance(caught.value, OSError)
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_missing_permission_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "read_only.wav").write_bytes(b"kept")
    (tmp_path / "read_only.wav").chmod(0o400)
    (tmp_path / "folder").mkdir(mode=0o500)
    for target in (tmp_path / "read_only.wav", tmp_path / "folder" / "out.wav"):
        with pytest.raises(OutputError, match="cannot be written"):
            WavWriter(target, RATE)
    assert (tmp_path / "read_only.wav").read_bytes() == b"kept"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_device_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="cannot be written") as caught:
        WavWriter("/dev/full", RATE)
    assert caught.value.errno == errno.ENOSPC


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    audio = np.zeros(50_000, np.float32)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written") as caught:
            write_wav(tmp_path / "out.wav", audio, RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == []


def test_a_failure_of_the_last_step_leaves_nothing_behind(
    tmp_path: Path, audio: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, target: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="Read-only file system"):
        write_wav(tmp_path / "out.wav", audio, RATE)
    assert os.listdir(tmp_path) == []


def test_the_4_gib_limit_is_an_error_before_it_is_passed(
    tmp_path: Path, audio: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wav, "MAX_DATA_BYTES", 2 * audio.size + 100)
    # At the limit, the silence at the end included.
    write_wav(tmp_path / "fits.wav", audio, 1000, tail_silence_s=0.05)
    with pytest.raises(OutputError, match="4 GiB"):
        write_wav(tmp_path / "out.wav", audio, 1000, tail_silence_s=0.051)
    assert os.listdir(tmp_path) == ["fits.wav"]
    # A pipe has no sizes to overflow.
    write_wav(Unseekable(), audio, 1000, tail_silence_s=1.0)


# --- streams ------------------------------------------------------------------------------------------


def test_a_seekable_stream_gets_exact_sizes_where_it_stands(audio: np.ndarray) -> None:
    stream = io.BytesIO(b"before")
    stream.seek(6)
    write_wav(stream, audio, RATE)
    data = stream.getvalue()
    assert data[:6] == b"before"
    assert sizes(data[6:]) == (36 + 2 * audio.size, 2 * audio.size)
    assert stream.tell() == len(data)
    assert not stream.closed


def test_a_pipe_gets_open_sizes_and_every_chunk_at_once(audio: np.ndarray) -> None:
    stream = Unseekable()
    with WavWriter(stream, RATE) as writer:
        assert len(stream.getvalue()) == HEADER_BYTES
        writer.write(audio[:10])
        assert len(stream.getvalue()) == HEADER_BYTES + 20
        writer.write(audio[10:])
    data = stream.getvalue()
    assert sizes(data) == (0xFFFFFFFF, 0xFFFFFFFF)
    assert data[44:] == pcm16_bytes(audio)


def test_a_piped_file_can_be_read_again(tmp_path: Path, audio: np.ndarray) -> None:
    stream = Unseekable()
    write_wav(stream, audio, RATE)
    (tmp_path / "piped.wav").write_bytes(stream.getvalue())
    read, rate = read_audio(tmp_path / "piped.wav")
    assert rate == RATE
    np.testing.assert_array_equal(read, float_to_int16(audio).astype(np.float32) / 32768)


def test_partial_writes_are_continued(audio: np.ndarray) -> None:
    stream = OneByteAtATime()
    write_wav(stream, audio, RATE)  # type: ignore[arg-type]
    assert bytes(stream.data[44:]) == pcm16_bytes(audio)


def test_a_stream_that_does_not_block_is_an_error(audio: np.ndarray) -> None:
    class NotReady(OneByteAtATime):
        def write(self, data: object) -> None:  # type: ignore[override]
            return None

    with pytest.raises(OutputError, match="cannot be written"):
        WavWriter(NotReady(), RATE)  # type: ignore[arg-type]


def test_a_stream_that_only_goes_forward_keeps_open_sizes(audio: np.ndarray) -> None:
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb") as stream:
        write_wav(stream, audio, RATE)
    data = gzip.decompress(target.getvalue())
    assert sizes(data) == (0xFFFFFFFF, 0xFFFFFFFF)
    assert data[44:] == pcm16_bytes(audio)


def test_an_append_only_file_is_not_corrupted(tmp_path: Path, audio: np.ndarray) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before")
    with open(path, "ab") as stream:
        write_wav(stream, audio, RATE)
    data = path.read_bytes()
    assert data[6:50] == wav_header(RATE)
    assert data[50:] == pcm16_bytes(audio)


def test_a_closed_stream_is_an_output_error(audio: np.ndarray) -> None:
    stream = io.BytesIO()
    writer = WavWriter(stream, RATE)
    stream.close()
    with pytest.raises(OutputError, match="closed file"):
        writer.write(audio)
    writer.discard()
    with pytest.raises(OutputError):
        WavWriter(stream, RATE)


def test_a_reader_that_went_away_is_a_broken_pipe(audio: np.ndarray) -> None:
    read_end, write_end = os.pipe()
    with open(write_end, "wb", buffering=0) as stream:
        writer = WavWriter(stream, RATE)
        os.close(read_end)
        with pytest.raises(OutputError) as caught:
            writer.write(audio)
        writer.discard()
    assert caught.value.errno == errno.EPIPE
    assert isinstance(caught.value.__cause__, BrokenPipeError)


def test_an_interrupted_stream_stays_open(audio: np.ndarray) -> None:
    stream = io.BytesIO()

    def speak() -> None:
        with WavWriter(stream, RATE) as writer:
            writer.write(audio)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        speak()
    assert not stream.closed
    assert len(stream.getvalue()) == 44 + 2 * audio.size


# --- special paths ------------------------------------------------------------------------------------


def test_devices_and_pipes_are_written_and_not_replaced(tmp_path: Path, audio: np.ndarray) -> None:
    write_wav("/dev/null", audio, RATE)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_wav(pipe, audio, RATE)
    reader.join(timeout=10)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert received == [wav_header(RATE) + pcm16_bytes(audio)]
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_descriptor_path_writes_into_that_descriptor(tmp_path: Path, audio: np.ndarray) -> None:
    path = tmp_path / "out"
    with open(path, "wb") as file:
        file.write(b"before")
        file.flush()
        write_wav(f"/dev/fd/{file.fileno()}", audio, RATE)
        file.seek(0, os.SEEK_END)
        file.write(b"after")
    data = path.read_bytes()
    assert data == b"before" + wav_header(RATE, 2 * audio.size) + pcm16_bytes(audio) + b"after"


SPEAK = """
import sys, numpy as np
from pockettts_fast.audio.wav import write_wav
write_wav(sys.argv[1], np.full(50, 0.5, np.float32), 24000)
"""


@pytest.mark.parametrize("target", ["-", "/dev/stdout"])
def test_standard_output_streams_or_gets_exact_sizes(tmp_path: Path, target: str) -> None:
    pcm = pcm16_bytes(np.full(50, 0.5, np.float32))
    command = [sys.executable, "-c", SPEAK, target]
    piped = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
    assert piped.stdout == wav_header(24000) + pcm
    path = tmp_path / "out.wav"
    with open(path, "wb") as file:
        subprocess.run(command, stdout=file, check=True, timeout=60)
    assert path.read_bytes() == wav_header(24000, 100) + pcm


def test_closed_standard_output_is_an_output_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="closed"):
        WavWriter("-", RATE)


# --- arguments ----------------------------------------------------------------------------------------


def test_the_header_says_16_bit_mono() -> None:
    assert len(wav_header(RATE)) == HEADER_BYTES
    expected = b"RIFF" + struct.pack("<I", 136) + b"WAVEfmt "
    expected += struct.pack("<IHHIIHH", 16, 1, 1, 24000, 48000, 2, 16) + b"data" + struct.pack("<I", 100)
    assert wav_header(24000, 100) == expected
    assert sizes(wav_header(24000, MAX_DATA_BYTES)) == (0xFFFFFFFF, MAX_DATA_BYTES)
    for data_bytes in (-1, MAX_DATA_BYTES + 1):
        with pytest.raises(AudioError, match="at most"):
            wav_header(24000, data_bytes)


@pytest.mark.parametrize("rate", [0, -1, 1 << 31])
def test_an_impossible_rate_creates_no_file(tmp_path: Path, rate: int) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        WavWriter(tmp_path / "out.wav", rate)
    with pytest.raises(AudioError, match="silence"):
        WavWriter(tmp_path / "out.wav", RATE, tail_silence_s=-1.0)
    assert os.listdir(tmp_path) == []


def test_any_float_array_of_one_dimension_is_taken(audio: np.ndarray) -> None:
    stereo = np.stack([audio, audio], axis=1)
    for array in (audio, audio.astype(np.float64), stereo[:, 0], audio.tolist()):
        assert pcm16_bytes(array) == float_to_int16(audio).astype("<i2").tobytes()
    assert pcm16_bytes(np.zeros(0, np.float32)) == b""


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 5), np.float32), np.zeros(5, np.int16), np.float32(1.0), np.array(["a"])]
)
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(AudioError, match="1-D float array"):
        pcm16_bytes(wrong)
