"""What a command did, and a parser for the WAV files it made."""

import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-m", "pockettts_fast"]

LONG_TEXT = "This sentence is spoken again and again until somebody stops it. " * 300
"""Minutes of sound, and many seconds of work for the demo model."""


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: bytes
    stderr: str

    def failed_with_one_sentence(self, code: int = 1) -> str:
        """Checks how a failure has to look; returns the sentence."""
        assert self.code == code, self.stderr
        lines = [line for line in self.stderr.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.stderr
        assert "Traceback" not in self.stderr
        assert "Exception ignored" not in self.stderr
        assert self.stdout == b""
        return lines[0]


def run(*arguments: str | Path, stdin: bytes = b"", **environment: str) -> Outcome:
    """Run the command in a process of its own, in the working directory."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


@dataclass(frozen=True)
class Wav:
    riff_size: int
    data_size: int
    sample_rate: int
    data: bytes


def parse_wav(content: bytes) -> Wav:
    """A 16-bit mono WAV with the 44-byte header."""
    riff, riff_size, wave, fmt, fmt_size = struct.unpack_from("<4sI4s4sI", content)
    tag, channels, rate, byte_rate, align, bits = struct.unpack_from("<HHIIHH", content, 20)
    data, data_size = struct.unpack_from("<4sI", content, 36)
    assert (riff, wave, fmt, data) == (b"RIFF", b"WAVE", b"fmt ", b"data")
    assert (fmt_size, tag, channels, align, bits, byte_rate) == (16, 1, 1, 2, 16, 2 * rate)
    return Wav(riff_size, data_size, rate, content[44:])


def files_in(folder: Path) -> list[str]:
    """Names of everything in ``folder``, hidden files too."""
    return sorted(os.listdir(folder))
