"""Measuring side by side: one process per peer, runs in turn, medians.

A peer is a script that speaks a line protocol on its standard streams: it prints one JSON object when it has
loaded, then answers every request line (a JSON object) with one result line. All peers stay loaded and are asked
in turn, so that a slow minute of the machine hits each of them alike.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@dataclass
class Peer:
    """One runtime under measurement.

    Attributes:
        name: shown in tables.
        script: file in ``bench/peers``.
        python: interpreter that has the runtime installed.
        options: JSON-able settings, passed to the script.
        cores: CPU numbers the process is pinned to.
    """

    name: str
    script: str
    python: str
    options: Record
    cores: Sequence[int]
    loaded: Record = field(default_factory=dict)
    runs: list[Record] = field(default_factory=list)
    _process: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        path = Path(__file__).parent / "peers" / self.script
        cores = set(self.cores)
        self._process = subprocess.Popen(
            [self.python, str(path), json.dumps(self.options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A script's own folder comes first on its path; the checkout must not shadow what is installed.
            cwd=path.parent,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.loaded = self._answer()

    def run(self, request: Record) -> Record:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """Ends the requests; the peer's last answer is how long it takes to encode a voice prompt."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self.loaded["voice_s"] = self._answer()["voice_s"]
            self._process.wait()

    def _answer(self) -> Record:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The peer {self.name} ended without an answer (exit status {self._process.wait()}).")
        answer: Record = json.loads(line)
        return answer

    def median(self, key: str) -> float:
        return statistics.median(run[key] for run in self.runs)

    def percentile(self, key: str, share: float) -> float:
        values = sorted(run[key] for run in self.runs)
        return float(values[min(len(values) - 1, round(share * (len(values) - 1)))])


def run_in_turn(peers: Sequence[Peer], requests: Sequence[Record], warm_ups: int = 1) -> None:
    """Start all peers, then let each answer each request, in turn; warm-ups are not recorded."""
    for peer in peers:
        print(f"loading {peer.name} ...", file=sys.stderr)
        peer.start()
    for index, request in enumerate(requests):
        for peer in peers:
            result = peer.run(request)
            if index >= warm_ups:
                peer.runs.append(result)
        print(f"round {index + 1} of {len(requests)}", file=sys.stderr)
    for peer in peers:
        peer.stop()


def machine() -> Record:
    """What a reader needs to know about where numbers come from."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
