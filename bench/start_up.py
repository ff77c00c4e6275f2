"""From the start of a process to its first audio byte, files in the page cache.

Runs the command line with its sound on a pipe and notes when the first byte after the WAV header arrives.
"""

import statistics
import subprocess
import time
from collections.abc import Sequence

_WAV_HEADER_BYTES = 44


def first_audio_byte_s(command: Sequence[str]) -> float:
    """Seconds until ``command`` has written a byte of audio to its standard output; the process is ended then."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        got = process.stdout.read(_WAV_HEADER_BYTES + 1)
        elapsed = time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if len(got) <= _WAV_HEADER_BYTES:
        raise SystemExit(f"{command[0]} wrote no audio: run it by hand to see why: {' '.join(command)}")
    return elapsed


def median_in_turn(commands: Sequence[Sequence[str]], runs: int) -> list[float]:
    """Median of ``runs`` starts of each command, in turn, after one warm-up each."""
    times: list[list[float]] = [[] for _ in commands]
    for index in range(runs + 1):
        for seen, command in zip(times, commands, strict=True):
            elapsed = first_audio_byte_s(command)
            if index > 0:
                seen.append(elapsed)
    return [statistics.median(seen) for seen in times]
