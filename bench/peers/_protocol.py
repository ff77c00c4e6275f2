"""The peers' side of the line protocol of bench/harness.py. Standard library only: it runs in foreign environments."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

# Answers go to the real standard output; whatever a library prints goes to standard error.
_answers = sys.stdout
sys.stdout = sys.stderr


def options() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(sys.argv[1])
    return parsed


def requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def answer(**facts: Any) -> None:
    print(json.dumps({**facts, **_memory()}), file=_answers, flush=True)


def consume(stream: Iterable[Any], sample_rate: int) -> dict[str, float]:
    """Read a stream of chunks to its end; times from the call."""
    start = time.perf_counter()
    first = None
    samples = 0
    for chunk in stream:
        first = time.perf_counter() - start if first is None else first
        samples += chunk.shape[0]
    elapsed = time.perf_counter() - start
    audio = samples / sample_rate
    return {
        "audio_s": audio,
        "elapsed_s": elapsed,
        "x_real_time": audio / elapsed,
        "first_audio_ms": 1e3 * (first or 0),
    }


def _memory() -> dict[str, float]:
    with open("/proc/self/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {
        "resident_mb": int(fields["VmRSS"].split()[0]) * 1024 / 1e6,
        "peak_mb": int(fields["VmHWM"].split()[0]) * 1024 / 1e6,
    }
