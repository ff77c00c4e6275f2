"""Benchmarks of single kernels: pytest bench/kernels [--benchmark-json FILE] [POCKETTTS_FAST_ISA=name].

Each benchmark checks its answer, then reports the median with GFLOP/s and GB/s in its extra info, and each as
a share of what one core can do at best, measured at the start (`bench/limits.py` has the whole picture).
Where a layer streams its weights from memory in a running model, `cold` hands out copies in turn, together
larger than the last-level cache.
"""

import functools
import itertools
import math
import platform
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from pockettts_fast import _core

T = TypeVar("T")
COLD_LIMIT = 2**30  # never more than this for copies, whatever the cache claims


def last_level_cache() -> int:
    """Bytes of the largest cache of the first core; 64 MiB where the system does not say."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        number, unit = re.fullmatch(r"(\d+)([KMG]?)", path.read_text().strip()).groups()  # type: ignore[union-attr]
        sizes.append(int(number) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[unit])
    return max(sizes, default=64 * 2**20)


def processor() -> str:
    """The processor's name, as Linux reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """bench_*.py are modules here; one named on the command line is collected without help."""
    if file_path.match("bench_*.py") and not parent.session.isinitpath(file_path):
        return pytest.Module.from_parent(parent, path=file_path)
    return None


def pytest_report_header() -> str:
    return (
        f"kernels: ISA {_core.active_isa()}, threads up to {_core.usable_cores()}, {processor()}, "
        f"last-level cache {last_level_cache() / 2**20:.0f} MiB"
    )


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["kernels"] = {
        "isa": _core.active_isa(),
        "read_gb_s": round(bandwidth(), 2),
        "peak_gflop_s": {arithmetic: round(peak(arithmetic), 2) for arithmetic in ("float32", "bf16", "int8")},
        "usable_cores": _core.usable_cores(),
        "processor": processor(),
        "last_level_cache": last_level_cache(),
    }


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "threads" in metafunc.fixturenames:
        counts = sorted({1, _core.usable_cores()})
        metafunc.parametrize("threads", counts, ids=[f"{n}thr" for n in counts])


@functools.cache
def peak(arithmetic: str) -> float:
    """GFLOP/s of one core at best."""
    return max(_core.kernels.peak(_core.active_isa(), arithmetic))


@functools.cache
def bandwidth() -> float:
    """GB/s that one core reads from memory at best."""
    return max(_core.kernels.read_bandwidth(_core.active_isa()))


@pytest.fixture
def isa() -> str:
    """The set in use; POCKETTTS_FAST_ISA chooses another."""
    return str(_core.active_isa())


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend only on the name of the benchmark."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def cold() -> Callable[[Callable[[], T], int], Iterator[T]]:
    """cold(make, bytes): an endless round of copies that together are twice the last-level cache."""

    def rotate(make: Callable[[], T], size: int) -> Iterator[T]:
        wanted = min(2 * last_level_cache(), COLD_LIMIT)
        return itertools.cycle([make() for _ in range(max(2, math.ceil(wanted / size)))])

    return rotate


@pytest.fixture
def measure(benchmark: Any) -> Callable[..., None]:
    """measure(call, flop=, bytes=, precision=): times call() and notes its rates, by the median.

    Shares are of one core's limits; a share of the bandwidth above 1 means weights from a cache or more
    cores.
    """

    def run(call: Callable[[], object], flop: float = 0.0, bytes: float = 0.0, precision: str = "float32") -> None:
        benchmark(call)
        if benchmark.disabled:
            return
        median = benchmark.stats.stats.median
        if flop:
            benchmark.extra_info["GFLOP/s"] = round(flop / median / 1e9, 2)
            benchmark.extra_info["share of peak"] = round(flop / median / 1e9 / peak(precision), 3)
        if bytes:
            benchmark.extra_info["GB/s"] = round(bytes / median / 1e9, 2)
            benchmark.extra_info["share of bandwidth"] = round(bytes / median / 1e9 / bandwidth(), 3)
        benchmark.extra_info["isa"] = _core.active_isa()

    return run
