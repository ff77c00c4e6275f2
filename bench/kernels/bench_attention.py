"""Attention over a cache that fills as it goes, in one call and frame by frame.

A call starts with an empty cache, so filling it is part of the time, as it is in a model.
"""

from collections.abc import Callable

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.attention import attention
from reference.rounding import assert_within

# (heads, kv_heads, head_dim, window, rows)
SHAPES = {
    "english-prefill125": (16, 16, 64, 0, 125),
    "english-prefill500": (16, 16, 64, 0, 500),
    "english-codec320": (8, 8, 64, 250, 320),
    "english_2m-prefill125": (3, 1, 64, 0, 125),
    "english_2m-prefill500": (3, 1, 64, 0, 500),
    "english_2m-codec320": (4, 4, 32, 50, 320),
}


@pytest.mark.parametrize("name", SHAPES)
def test_prefill(measure: Callable[..., None], isa: str, name: str, rng: np.random.Generator) -> None:
    heads, kv_heads, head_dim, window, rows = SHAPES[name]
    q, k, v = (rng.standard_normal((rows, n, head_dim), dtype=np.float32) for n in (heads, kv_heads, kv_heads))
    assert_within(kernels.attention(isa, q, k, v, [rows], window), *attention(q, k, v, window))
    seen = sum(min(i + 1, window or rows) for i in range(rows))
    measure(lambda: kernels.attention(isa, q, k, v, [rows], window), flop=4.0 * heads * head_dim * seen)


@pytest.mark.parametrize("name", SHAPES)
def test_frame_by_frame(measure: Callable[..., None], isa: str, name: str, rng: np.random.Generator) -> None:
    heads, kv_heads, head_dim, window, rows = SHAPES[name]
    frame = 16 if window else 1  # the codec's transformer runs at 16 rows a frame
    chunks = [frame] * (rows // frame) + ([rows % frame] if rows % frame else [])
    q, k, v = (rng.standard_normal((rows, n, head_dim), dtype=np.float32) for n in (heads, kv_heads, kv_heads))
    assert_within(kernels.attention(isa, q, k, v, chunks, window), *attention(q, k, v, window))
    seen = sum(min(i + 1, window or rows) for i in range(rows))
    measure(
        lambda: kernels.attention(isa, q, k, v, chunks, window),
        flop=4.0 * heads * head_dim * seen,
        bytes=4.0 * 2 * kv_heads * head_dim * seen / frame,
    )
