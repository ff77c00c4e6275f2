"""Prints the seconds of sound in a WAV file, or says what is wrong with it: python check_wav.py FILE."""

import struct
import sys
from pathlib import Path

RATE = 24000
FRAME = 1920  # samples the model speaks at once

data = Path(sys.argv[1]).read_bytes()
if len(data) < 44 or data[:4] != b"RIFF" or data[8:16] != b"WAVEfmt ":
    sys.exit(f"{len(data)} bytes are not a WAV file: {data[:16]!r}")
riff_size, form = struct.unpack("<I", data[4:8])[0], struct.unpack("<IHHIIHH", data[16:36])
if form != (16, 1, 1, RATE, 2 * RATE, 2, 16):
    sys.exit(f"the format is {form}, expected 16-bit mono PCM at {RATE} Hz")
name, size = data[36:40], struct.unpack("<I", data[40:44])[0]
if name != b"data" or riff_size != len(data) - 8 or size != len(data) - 44:
    sys.exit(f"chunk {name!r} of {size} bytes in a RIFF of {riff_size}: the file has {len(data)} bytes")
samples = struct.unpack(f"<{size // 2}h", data[44:])
if len(samples) < FRAME or len(set(samples)) < 100:
    sys.exit(f"{len(samples)} samples with {len(set(samples))} values are no speech")
print(f"{len(samples) / RATE:.2f}")
