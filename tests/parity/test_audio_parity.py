"""Audio against the original: the same files read, resampled, ended and written."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from pockettts_fast.audio import UPSTREAM_TAIL_SILENCE_S, WavWriter, prepare_prompt, read_audio, resample_poly
from pockettts_fast.audio._dsp import fade_in_inplace, fade_out_inplace, float_to_int16
from pockettts_fast.audio.prompt import end_on_pause

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
upstream_audio = pytest.importorskip("pocket_tts.data.audio")
upstream_convert = pytest.importorskip("pocket_tts.data.audio_utils")
soundfile = pytest.importorskip("soundfile")

RATES = [7350, 8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000]
MODEL_RATE = 24000


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def snr_db(reference: np.ndarray, actual: np.ndarray) -> float:
    reference = reference.astype(np.float64)
    error = float(np.square(reference - actual).sum())
    return 999.0 if error == 0 else 10 * np.log10(float(np.square(reference).sum()) / error)


def speech_like(rng: np.random.Generator, size: int, rate: int, channels: int = 1) -> np.ndarray:
    """float64 [size, channels]: noise whose level wanders over 60 dB and that ends on a quiet tail."""
    t = np.arange(size) / rate
    level = 10 ** ((-30 + 30 * np.sin(2 * np.pi * 1.7 * t + rng.uniform(0, 6))) / 20)
    level[int(0.8 * size) :] *= 10 ** (rng.uniform(-60, 0) / 20)
    return np.clip(0.3 * rng.standard_normal((size, channels)) * level[:, None], -1, 1)


@pytest.mark.parametrize("channels", range(1, 7))
@pytest.mark.parametrize("rate", RATES)
def test_16_bit_wav_is_read_and_prepared_alike(
    tmp_path: Path, rng: np.random.Generator, rate: int, channels: int
) -> None:
    path = tmp_path / "voice.wav"
    size = int(rng.integers(rate // 2, rate)) | 1
    soundfile.write(path, speech_like(rng, size, rate, channels), rate, subtype="PCM_16")
    theirs, their_rate = upstream_audio.audio_read(path)
    ours, our_rate = read_audio(path)
    assert our_rate == their_rate == rate
    np.testing.assert_array_equal(ours, theirs[0].numpy())

    converted = upstream_convert.convert_audio(theirs, rate, MODEL_RATE, 1)
    # scipy runs in float32 there, ours sums in double: 2^-24 x sqrt(20 x 8 products) is 122 dB.
    resampled = resample_poly(ours, MODEL_RATE, rate)
    assert resampled.shape == converted[0].shape
    assert snr_db(converted[0].numpy(), resampled) >= 100
    ended = upstream_convert.end_on_pause(converted, MODEL_RATE)[0].numpy()
    prepared = prepare_prompt(ours, rate, MODEL_RATE)
    assert prepared.shape == ended.shape
    assert snr_db(ended, prepared) >= 100


@pytest.mark.parametrize("max_frames", [1, 100, 5_000])
@pytest.mark.parametrize("rate", RATES)
def test_any_length_resamples_alike(rng: np.random.Generator, rate: int, max_frames: int) -> None:
    x = (0.3 * rng.standard_normal(int(rng.integers(1, max_frames + 1)))).astype(np.float32)
    theirs = upstream_convert.convert_audio(torch.from_numpy(x)[None], rate, MODEL_RATE, 1)[0].numpy()
    ours = resample_poly(x, MODEL_RATE, rate)
    assert ours.shape == theirs.shape
    assert snr_db(theirs, ours) >= 100


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("AIFF", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_other_formats_are_read_alike(
    tmp_path: Path, rng: np.random.Generator, kind: str, subtype: str, channels: int
) -> None:
    if kind == "MP3" and channels > 2:
        pytest.skip("MP3 has two channels at most")
    path = tmp_path / f"voice.{kind.lower()}"
    soundfile.write(path, speech_like(rng, 44101, 44100, channels), 44100, format=kind, subtype=subtype)
    theirs, rate = upstream_audio.audio_read(path)
    ours, our_rate = read_audio(path)
    assert our_rate == rate
    np.testing.assert_array_equal(ours, theirs[0].numpy())


@pytest.mark.parametrize(("kind", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("FLAC", "PCM_24")])
def test_long_compressed_files_are_read_alike(
    tmp_path: Path, rng: np.random.Generator, kind: str, subtype: str
) -> None:
    path = tmp_path / f"voice.{kind.lower()}"
    soundfile.write(path, speech_like(rng, 400_001, 24000, 2), 24000, format=kind, subtype=subtype)
    theirs = upstream_audio.audio_read(path)[0][0].numpy()
    np.testing.assert_array_equal(read_audio(path)[0], theirs)
    np.testing.assert_array_equal(read_audio(path, max_seconds=12)[0], theirs[: 12 * 24000])


def test_many_blocks_are_averaged_alike(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, rng.uniform(-1, 1, (300_001, 6)), 48000, subtype="PCM_16")
    np.testing.assert_array_equal(read_audio(path)[0], upstream_audio.audio_read(path)[0][0].numpy())
    half = int(1.5 * 48000)
    np.testing.assert_array_equal(
        read_audio(path, max_seconds=1.5)[0], upstream_audio.audio_read(path)[0][0, :half].numpy()
    )


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100])
@pytest.mark.parametrize("frames", [0.4, 1, 1.5, 7, 50.3])
def test_prompts_end_alike(rng: np.random.Generator, rate: int, frames: float) -> None:
    for _ in range(5):
        size = int(frames * 0.02 * rate)
        x = speech_like(rng, size, rate)[:, 0].astype(np.float32)
        x[size - int(rng.integers(0, size // 2 + 1)) :] *= np.float32(10 ** (rng.uniform(-45, -20) / 20))
        theirs = upstream_convert.end_on_pause(torch.from_numpy(x)[None], rate)[0].numpy()
        assert_same(end_on_pause(x, rate), theirs)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-7, 0.5])
def test_constant_prompts_end_alike(level: float) -> None:
    x = np.full(5000, level, np.float32)
    theirs = upstream_convert.end_on_pause(torch.from_numpy(x)[None], 24000)[0].numpy()
    assert_same(end_on_pause(x, 24000), theirs)


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Bit for bit where torch.linspace runs with FMA (AVX2 and later), else within its two roundings."""
    assert ours.shape == theirs.shape
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        np.testing.assert_array_equal(ours, theirs)
    else:
        scale = max(1e-30, float(np.abs(theirs).max(initial=0.0)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2**-23 * scale)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 36, 40, 55, 80, 110, 120, 147, 220, 240, 441, 480, 882, 960])
def test_ramps_equal_linspace(n: int) -> None:
    rising, falling = np.ones(n, np.float32), np.ones(n, np.float32)
    fade_in_inplace(rising, n)
    fade_out_inplace(falling, n)
    assert_same(rising, torch.linspace(0, 1, n).numpy())
    assert_same(falling, torch.linspace(1, 0, n).numpy())


@pytest.mark.parametrize("size", [50, 120, 1920])
def test_the_first_frame_fades_in_alike(rng: np.random.Generator, size: int) -> None:
    frame = rng.standard_normal(size).astype(np.float32)
    ramp = torch.linspace(0, 1, MODEL_RATE // 200)
    n = min(ramp.numel(), size)
    theirs = torch.from_numpy(frame.copy())[None, None]
    theirs[..., :n] *= ramp[:n]
    fade_in_inplace(frame, MODEL_RATE // 200)
    assert_same(frame, theirs[0, 0].numpy())


def test_int16_equals_the_original_writer(rng: np.random.Generator) -> None:
    steps = np.arange(-32769, 32770, dtype=np.float64)
    x = np.concatenate([steps / 32767, steps / 32768, rng.uniform(-2, 2, 100_000), [np.inf, -np.inf, np.nan]]).astype(
        np.float32
    )
    theirs = (torch.from_numpy(x).clamp(-1, 1) * 32767).short().numpy()
    np.testing.assert_array_equal(float_to_int16(x), theirs)


def test_files_are_written_alike(tmp_path: Path, rng: np.random.Generator) -> None:
    chunks = [rng.uniform(-1.1, 1.1, size).astype(np.float32) for size in (1920, 3840, 1, 1920)]
    upstream_audio.stream_audio_chunks(
        tmp_path / "theirs.wav", (torch.from_numpy(chunk) for chunk in chunks), MODEL_RATE
    )
    with WavWriter(tmp_path / "ours.wav", MODEL_RATE, tail_silence_s=UPSTREAM_TAIL_SILENCE_S) as writer:
        for chunk in chunks:
            writer.write(chunk)
    assert (tmp_path / "ours.wav").read_bytes() == (tmp_path / "theirs.wav").read_bytes()


def test_the_original_reads_a_streamed_file(tmp_path: Path, rng: np.random.Generator) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    stream = Pipe()
    with WavWriter(stream, MODEL_RATE) as writer:
        writer.write(rng.uniform(-1, 1, 5000).astype(np.float32))
    path = tmp_path / "streamed.wav"
    path.write_bytes(stream.getvalue())
    theirs, rate = upstream_audio.audio_read(path)
    assert rate == MODEL_RATE
    np.testing.assert_array_equal(read_audio(path)[0], theirs[0].numpy())
