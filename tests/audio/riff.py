"""WAV files made by hand, so that every field can lie."""

import struct

PCM, IEEE_FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk with its pad byte; `size` replaces the true size in the header."""
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt_chunk(tag: int, channels: int, rate: int, bits: int) -> bytes:
    align = channels * ((bits + 7) // 8)
    bytes_a_second = (rate * align) & 0xFFFFFFFF
    body = struct.pack("<HHIIHH", tag, channels, rate, bytes_a_second, align & 0xFFFF, bits)
    return chunk(b"fmt ", body)


def extensible_fmt_chunk(sub_tag: int, channels: int, rate: int, bits: int) -> bytes:
    align = channels * bits // 8
    body = struct.pack("<HHIIHH", EXTENSIBLE, channels, rate, rate * align, align, bits)
    body += struct.pack("<HHI", 22, bits, 0)
    body += struct.pack("<H", sub_tag) + bytes.fromhex("000000001000800000aa00389b71")
    return chunk(b"fmt ", body)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def wav(
    data: bytes,
    *,
    tag: int = PCM,
    channels: int = 1,
    rate: int = 24000,
    bits: int = 16,
    data_size: int | None = None,
    riff_size: int | None = None,
) -> bytes:
    return riff(fmt_chunk(tag, channels, rate, bits), chunk(b"data", data, data_size), size=riff_size)
