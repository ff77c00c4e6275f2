"""Reading audio files: every sample format, and every way in which a file can be wrong."""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio.riff import (
    ALAW,
    IEEE_FLOAT,
    MULAW,
    PCM,
    chunk,
    extensible_fmt_chunk,
    fmt_chunk,
    riff,
    wav,
)
from pockettts_fast.audio import files
from pockettts_fast.audio.files import MAX_SECONDS, read_audio
from pockettts_fast.errors import AudioError, MissingFileError

Put = Callable[..., Path]
SAMPLES = np.array([0, 1, -1, 12345, -32768, 32767, 77], dtype=np.int16)
EXPECTED = SAMPLES.astype(np.float32) / 32768


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(data: bytes, name: str = "voice.wav") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


# --- what can be read ---------------------------------------------------------------------------------


def test_16_bit_is_divided_by_32768(put: Put) -> None:
    audio, rate = read_audio(put(wav(SAMPLES.tobytes(), rate=22050)))
    assert rate == 22050
    assert audio.dtype == np.float32
    assert audio.shape == SAMPLES.shape
    np.testing.assert_array_equal(audio, EXPECTED)


@pytest.mark.parametrize("channels", [2, 3, 6, 8, 64])
def test_channels_are_averaged_in_float32(put: Put, rng: np.random.Generator, channels: int) -> None:
    values = rng.integers(-32768, 32768, (101, channels)).astype(np.int16)
    audio, _ = read_audio(put(wav(values.tobytes(), channels=channels)))
    np.testing.assert_array_equal(audio, (values.astype(np.float32) / 32768).mean(axis=1))


def test_blocks_do_not_change_the_samples(put: Put, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng.integers(-32768, 32768, (1001, 9)).astype(np.int16)
    path = put(wav(values.tobytes(), channels=9))
    flac = path.with_suffix(".flac")
    soundfile.write(flac, values[:, :8], 24000)
    whole, whole_flac = read_audio(path)[0], read_audio(flac)[0]
    for block in (1, 10, 97):
        monkeypatch.setattr(files, "_BLOCK_SAMPLES", block * 9)
        np.testing.assert_array_equal(read_audio(path)[0], whole)
        np.testing.assert_array_equal(read_audio(flac)[0], whole_flac)


def test_one_sample_is_read(put: Put) -> None:
    audio, _ = read_audio(put(wav(SAMPLES[3:4].tobytes())))
    np.testing.assert_array_equal(audio, EXPECTED[3:4])


def alaw_decode(code: int) -> float:
    """ITU-T G.711 A-law to a 16-bit value over 32768."""
    code ^= 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    value = (mantissa << 4) + 8 if exponent == 0 else ((mantissa << 4) + 0x108) << (exponent - 1)
    return (value if code & 0x80 else -value) / 32768


def mulaw_decode(code: int) -> float:
    """ITU-T G.711 mu-law to a 16-bit value over 32768."""
    code ^= 0xFF
    value = ((((code & 15) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84
    return (-value if code & 0x80 else value) / 32768


CODES = bytes(range(256))
INTS = np.array([0, 1, -1, 2**22, -(2**23), 2**23 - 1], dtype=np.int32)


@pytest.mark.parametrize(
    ("tag", "bits", "data", "expected"),
    [
        (PCM, 8, CODES, (np.arange(256) - 128) / 128),
        (PCM, 24, b"".join(int(v).to_bytes(3, "little", signed=True) for v in INTS), INTS / 2**23),
        (PCM, 32, (INTS * 256).tobytes(), INTS / 2**23),
        (IEEE_FLOAT, 32, EXPECTED.tobytes(), EXPECTED),
        (IEEE_FLOAT, 64, EXPECTED.astype(np.float64).tobytes(), EXPECTED),
        (ALAW, 8, CODES, [alaw_decode(code) for code in range(256)]),
        (MULAW, 8, CODES, [mulaw_decode(code) for code in range(256)]),
    ],
    ids=["u8", "s24", "s32", "f32", "f64", "a-law", "mu-law"],
)
def test_other_sample_formats_are_exact(put: Put, tag: int, bits: int, data: bytes, expected: np.ndarray) -> None:
    audio, rate = read_audio(put(wav(data, tag=tag, bits=bits)))
    assert rate == 24000
    np.testing.assert_array_equal(audio, np.asarray(expected, dtype=np.float32))


@pytest.mark.parametrize(
    ("tag", "bits", "data"),
    [(PCM, 16, SAMPLES.tobytes()), (IEEE_FLOAT, 32, EXPECTED.tobytes())],
    ids=["s16", "f32"],
)
def test_extensible_headers_are_understood(put: Put, tag: int, bits: int, data: bytes) -> None:
    audio, _ = read_audio(put(riff(extensible_fmt_chunk(tag, 1, 24000, bits), chunk(b"data", data))))
    np.testing.assert_array_equal(audio, EXPECTED)


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "AIFF", "W64", "RF64", "MP3"])
def test_formats_of_libsndfile_are_read(tmp_path: Path, rng: np.random.Generator, kind: str) -> None:
    if kind not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {kind}")
    path = tmp_path / f"voice.{kind.lower()}"
    t = np.arange(16000) / 16000
    stereo = np.stack([np.sin(440 * t), np.sin(200 * t)], axis=1) * 0.3
    soundfile.write(path, stereo, 16000, format=kind)
    audio, rate = read_audio(path)
    assert rate == 16000
    np.testing.assert_array_equal(audio, soundfile.read(path, dtype="float32")[0].mean(axis=1))


def test_a_decoder_with_a_past_is_read_in_one_piece(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seeking between blocks gives other samples (0.3 of full scale for MP3).
    monkeypatch.setattr(files, "_BLOCK_SAMPLES", 1000)
    for kind, subtype in (
        ("MP3", None),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("WAV", "GSM610"),
        ("WAV", "IMA_ADPCM"),
    ):
        if subtype and not soundfile.check_format(kind, subtype):
            continue
        path = tmp_path / f"voice.{kind.lower()}"
        rate = 48000 if subtype == "OPUS" else 16000
        soundfile.write(path, 0.3 * np.sin(np.arange(30_000) * 0.02), rate, format=kind, subtype=subtype)
        whole = soundfile.read(path, dtype="float32")[0]
        np.testing.assert_array_equal(read_audio(path)[0], whole)
        np.testing.assert_array_equal(read_audio(path, max_seconds=0.25)[0], whole[: rate // 4])
        with monkeypatch.context() as patch:
            patch.setattr(files, "_MAX_SAMPLES_TOGETHER", 20_000)
            with pytest.raises(AudioError, match="too long for its 1 channels"):
                read_audio(path)


def test_the_content_decides_and_not_the_name(tmp_path: Path, put: Put) -> None:
    np.testing.assert_array_equal(read_audio(put(wav(SAMPLES.tobytes()), "voice"))[0], EXPECTED)
    np.testing.assert_array_equal(read_audio(put(wav(SAMPLES.tobytes()), "voice.raw"))[0], EXPECTED)
    soundfile.write(tmp_path / "flac.wav", SAMPLES, 24000, format="FLAC")
    np.testing.assert_array_equal(read_audio(tmp_path / "flac.wav")[0], EXPECTED)


@pytest.mark.parametrize("name", ["VOICE.WAV", "with space.wav", "Grüße-日本語-🎤.wav", "-.wav", "no_suffix"])
def test_any_name_works_as_text_and_as_path(put: Put, name: str) -> None:
    path = put(wav(SAMPLES.tobytes()), name)
    for given in (path, str(path)):
        np.testing.assert_array_equal(read_audio(given)[0], EXPECTED)


def test_a_name_that_is_not_text_works(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.flac")
    with open(path, "wb") as file:
        soundfile.write(file, SAMPLES, 24000, format="FLAC")
    np.testing.assert_array_equal(read_audio(path)[0], EXPECTED)


def test_other_chunks_and_odd_sizes_are_skipped(put: Put) -> None:
    data = riff(
        chunk(b"LIST", b"odd"),
        chunk(b"junk", b""),
        fmt_chunk(PCM, 1, 24000, 16),
        chunk(b"fact", bytes(4)),
        chunk(b"data", SAMPLES.tobytes()),
        chunk(b"LIST", b"behind"),
    )
    np.testing.assert_array_equal(read_audio(put(data))[0], EXPECTED)


def test_dc_and_silence_are_audio(put: Put) -> None:
    for level in (0, 1000):
        audio, _ = read_audio(put(wav(np.full(500, level, np.int16).tobytes())))
        assert (audio == np.float32(level / 32768)).all()


# --- lying and damaged headers ------------------------------------------------------------------------


@pytest.mark.parametrize("riff_size", [0, 1, 36, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("data_size", [None, 2 * SAMPLES.size + 1, 1000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
def test_sizes_beyond_the_file_give_what_is_there(put: Put, riff_size: int, data_size: int | None) -> None:
    path = put(wav(SAMPLES.tobytes(), riff_size=riff_size, data_size=data_size))
    np.testing.assert_array_equal(read_audio(path)[0], EXPECTED)


def test_a_size_below_the_data_is_believed(put: Put) -> None:
    np.testing.assert_array_equal(read_audio(put(wav(SAMPLES.tobytes(), data_size=6)))[0], EXPECTED[:3])


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_truncated_file_gives_its_whole_frames(put: Put, cut: int) -> None:
    data = wav(SAMPLES.tobytes())
    np.testing.assert_array_equal(read_audio(put(data[:-cut]))[0], EXPECTED[: (14 - cut) // 2])


def test_a_truncated_stereo_file_gives_its_whole_frames(put: Put) -> None:
    data = wav(SAMPLES[:6].tobytes(), channels=2)
    np.testing.assert_array_equal(read_audio(put(data[:-3]))[0], EXPECTED[:4].reshape(2, 2).mean(axis=1))


@pytest.mark.parametrize("data_size", [0xFFFFFFFF, 10_000])
def test_sizes_beyond_the_file_in_other_formats(put: Put, data_size: int) -> None:
    data = wav((INTS * 256).tobytes(), bits=32, data_size=data_size, riff_size=0xFFFFFFFF)
    np.testing.assert_array_equal(read_audio(put(data))[0], (INTS / 2**23).astype(np.float32))


def test_every_prefix_of_a_file_is_read_or_refused(put: Put) -> None:
    data = riff(chunk(b"LIST", b"name"), fmt_chunk(PCM, 2, 24000, 16), chunk(b"data", SAMPLES[:6].tobytes()))
    header = len(data) - 12
    for length in range(len(data)):
        path = put(data[:length])
        if length < header + 4:
            with pytest.raises(AudioError):
                read_audio(path)
        else:
            assert read_audio(path)[0].size == (length - header) // 4


def test_any_damaged_header_byte_is_survived(put: Put, rng: np.random.Generator) -> None:
    whole = bytearray(wav(SAMPLES.tobytes() * 4, channels=2))
    for position in range(44):
        for value in (0, 1, 0x7F, 0xFF, int(rng.integers(256))):
            data = whole.copy()
            data[position] = value
            try:
                audio, rate = read_audio(put(bytes(data)))
            except AudioError:
                continue
            assert audio.ndim == 1
            assert 1 <= audio.size <= SAMPLES.size * 8
            assert np.isfinite(audio).all()
            assert 1000 <= rate <= 768000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an audio file"),
        (b"R", "not an audio file"),
        (b"this is a text file, renamed\n" * 50, "not an audio file"),
        (bytes(4096), "not an audio file"),
        (riff(), "not an audio file"),
        (riff(fmt_chunk(PCM, 1, 24000, 16)), "audio"),
        (riff(chunk(b"data", SAMPLES.tobytes())), "not an audio file"),
        (riff(chunk(b"fmt ", b"abc"), chunk(b"data", b"1234")), "not an audio file"),
        (riff(chunk(b"data", b"12"), fmt_chunk(PCM, 1, 24000, 16)), "audio"),
        (riff(chunk(b"LIST", b"x", size=0xFFFFFFFF)), "not an audio file"),
        (wav(b""), "no samples"),
        (wav(b"\1"), "no samples"),
        (wav(b"\1\2\3", channels=2), "no samples"),
        (wav(SAMPLES.tobytes(), data_size=0), "no samples"),
        (wav(b"", bits=24), "samples|not an audio file"),
        (wav(SAMPLES.tobytes(), channels=0), "0 channels"),
        (wav(SAMPLES.tobytes() * 20, channels=65), "65 channels"),
        (wav(SAMPLES.tobytes() * 20, channels=65535), "65535 channels"),
        (wav(bytes(2400), channels=100, bits=24), "channels|not an audio file"),
        (wav(SAMPLES.tobytes(), rate=0), "sample rate of 0"),
        (wav(SAMPLES.tobytes(), rate=1), "sample rate of 1 Hz"),
        (wav(SAMPLES.tobytes(), rate=999), "sample rate of 999"),
        (wav(SAMPLES.tobytes(), rate=768001), "sample rate of 768001"),
        (wav(SAMPLES.tobytes(), rate=4_000_000_000), "sample rate of 4000000000"),
        (wav(bytes(30), rate=1, bits=24), "sample rate|not an audio file"),
        (wav(bytes(30), rate=4_000_000_000, bits=24), "sample rate|not an audio file"),
        (wav(SAMPLES.tobytes(), tag=0x1234), "not an audio file"),
        (wav(struct.pack("<3f", 0, np.nan, 0), tag=IEEE_FLOAT, bits=32), "NaN or infinite"),
        (wav(struct.pack("<3f", 0, np.inf, 0), tag=IEEE_FLOAT, bits=32), "NaN or infinite"),
        (wav(struct.pack("<2f", np.inf, -np.inf), tag=IEEE_FLOAT, bits=32, channels=2), "NaN or infinite"),
        (wav(struct.pack("<2f", 3e38, 3e38), tag=IEEE_FLOAT, bits=32, channels=2), "NaN or infinite"),
    ],
)
def test_an_unusable_file_is_one_sentence_with_its_name(put: Put, data: bytes, words: str) -> None:
    path = put(data)
    with pytest.raises(AudioError, match=words) as caught:
        read_audio(path)
    assert "voice.wav" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [1000, 768000])
def test_the_limits_of_the_sample_rate_are_inside(put: Put, rate: int) -> None:
    assert read_audio(put(wav(SAMPLES.tobytes(), rate=rate)))[1] == rate


def test_damaged_compressed_files_are_survived(tmp_path: Path, put: Put, rng: np.random.Generator) -> None:
    for kind in ("FLAC", "OGG"):
        path = tmp_path / "good"
        soundfile.write(path, 0.1 * rng.standard_normal(4000), 16000, format=kind)
        good = path.read_bytes()
        for length in (3, 50, len(good) // 2, len(good) - 1):
            try:
                audio, _ = read_audio(put(good[:length], "bad"))
            except AudioError:
                continue
            assert 1 <= audio.size <= 4000


# --- things that are not files ------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.wav"):
        read_audio(tmp_path / "nowhere.wav")
    with pytest.raises(FileNotFoundError):
        read_audio("")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="a directory"):
        read_audio(tmp_path)


def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path("/dev/zero")):
        with pytest.raises(AudioError, match="not a regular file"):
            read_audio(path)


@pytest.mark.parametrize("name", ["nul\0byte.wav", "x" * 5000, "lone\ud800.wav"])
def test_an_impossible_name_is_an_error(name: str) -> None:
    with pytest.raises(AudioError, match="cannot be opened"):
        read_audio(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_error(put: Put) -> None:
    path = put(wav(SAMPLES.tobytes()))
    path.chmod(0)
    with pytest.raises(AudioError, match="cannot be opened"):
        read_audio(path)


def test_a_disk_that_fails_is_an_audio_error(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "_find_pcm16", fail)
    with pytest.raises(AudioError, match="cannot be read"):
        read_audio(put(wav(SAMPLES.tobytes())))


# --- limits that act while decoding -------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_max_seconds_reads_the_beginning(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    path = tmp_path / f"voice{suffix}"
    values = rng.integers(-32768, 32768, (44100, 2)).astype(np.int16)
    soundfile.write(path, values, 22050)
    whole, _ = read_audio(path)
    for seconds in (0.00001, 0.5, 1.9999, 2.0, 30.0):
        part, _ = read_audio(path, max_seconds=seconds)
        np.testing.assert_array_equal(part, whole[: max(1, int(seconds * 22050))])


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_max_seconds_has_to_be_positive(put: Put, seconds: float) -> None:
    with pytest.raises(AudioError, match="positive"):
        read_audio(put(wav(SAMPLES.tobytes())), max_seconds=seconds)


def test_a_huge_file_is_not_read_beyond_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    path.write_bytes(wav(b"", rate=1000, data_size=0xFFFFFFFF))
    os.truncate(path, 3 << 30)  # sparse: 3 GiB of zeros, 18 days at this rate
    assert read_audio(path, max_seconds=2)[0].size == 2000
    assert read_audio(path, max_seconds=MAX_SECONDS)[0].size == 1000 * MAX_SECONDS
    for seconds in (None, MAX_SECONDS + 1.0, 1.7e308):
        with pytest.raises(AudioError, match="longer than 1200 s"):
            read_audio(path, max_seconds=seconds)


def test_a_compressed_bomb_stops_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.flac"
    soundfile.write(path, np.zeros(1000 * (2 * MAX_SECONDS), np.int16), 1000)
    assert path.stat().st_size < 50_000
    decoded = 0
    read = soundfile.SoundFile.read

    def counting_read(self: soundfile.SoundFile, *args: object, **kwargs: object) -> np.ndarray:
        nonlocal decoded
        block = read(self, *args, **kwargs)
        decoded += len(block)
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counting_read)
    with pytest.raises(AudioError, match="longer than 1200 s"):
        read_audio(path)
    assert decoded == 1000 * MAX_SECONDS + 1
    decoded = 0
    assert read_audio(path, max_seconds=3.0)[0].size == 3000
    assert decoded == 3000


def test_the_number_of_frames_is_limited_too(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FRAMES", 6)
    path = put(wav(SAMPLES.tobytes()))
    with pytest.raises(AudioError, match="longer than"):
        read_audio(path)
    assert read_audio(path, max_seconds=6 / 24000)[0].size == 6


def test_no_descriptor_stays_open(put: Put) -> None:
    good, bad = put(wav(SAMPLES.tobytes(), bits=24), "good"), put(b"nothing", "bad")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for _ in range(5):
        read_audio(good)
        with pytest.raises(AudioError):
            read_audio(bad)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
