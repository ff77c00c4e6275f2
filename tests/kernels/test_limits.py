"""The measured limits: plausible, and refused where they make no sense. How fast a machine is, is no test."""

import re
from pathlib import Path

import pytest

from pockettts_fast._core import kernels
from pockettts_fast.config import language_config_path, load_config

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.parametrize("threads", [1, 2])
def test_every_pass_over_memory_is_reported(isa: str, threads: int) -> None:
    passes = kernels.read_bandwidth(isa, threads, 2, 3)
    assert len(passes) == 3
    assert all(0.01 < rate < 10_000 for rate in passes)


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_a_peak_is_measured_for_each_precision(isa: str, precision: str) -> None:
    slices = kernels.peak(isa, precision, 0.005)
    assert slices
    assert all(0.01 < rate < 100_000 for rate in slices)


def test_impossible_measurements_are_refused() -> None:
    for call, message in [
        (lambda: kernels.read_bandwidth("scalar", 1, 0), "megabytes must be between 1 and"),
        (lambda: kernels.read_bandwidth("scalar", 1, 1, 0), "passes must be between 1 and"),
        (lambda: kernels.read_bandwidth("scalar", 0), "threads must be between 1 and 1024"),
        (lambda: kernels.peak("scalar", "float32", 0.0), "seconds must be above 0"),
        (lambda: kernels.peak("scalar", "int4"), "unknown precision 'int4'"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


@pytest.mark.skipif(not BENCH.is_dir(), reason="the benchmarks are not here")
def test_the_work_of_a_frame_is_that_of_the_released_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from limits import frame_work

    config = load_config(language_config_path("english"))
    layers = 6 * (3072 + 1024 + 2 * 4096) * 1024
    head = 6 * 5 * 512 * 512 + 512 * 1024 + 1024 * 512
    exact = 1024 * 32 + 512 * 32 + 32 * 512 + 1024  # input, the head's input and output, the end of speech
    assert frame_work(config, "float32")["lm_bytes"] == 4 * (layers + head + exact)
    assert frame_work(config, "int8")["lm_bytes"] == layers + head + 4 * exact
    two = frame_work(config, "float32", steps=2)["lm_bytes"]
    assert two == 4 * (layers + head + exact + head - 512 * 1024 + 2 * 512 * 32)
    assert frame_work(config, "float32")["codec_flop"] == pytest.approx(0.541e9, rel=1e-3)
