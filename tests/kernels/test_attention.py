"""Attention over the key/value cache against float64; chunking, windows, grouped heads, and NaN."""

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.attention import attention
from reference.chunks import random_split
from reference.rounding import assert_same_bits, assert_within

# (heads, kv_heads, head_dim, window) of the released models.
RELEASED = {
    "english": (16, 16, 64, 0),
    "english_codec": (8, 8, 64, 250),
    "english_2m": (3, 1, 64, 0),
    "english_2m_decoder": (4, 4, 32, 50),
}
HEAD_DIMS = (2, 8, 16, 24, 64, 80)


def inputs(
    rng: np.random.Generator, rows: int, heads: int, kv_heads: int, head_dim: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q, k, v = (rng.standard_normal((rows, n, head_dim), dtype=np.float32) for n in (heads, kv_heads, kv_heads))
    return q, k, v


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_shapes_are_right(isa: str, name: str, rng: np.random.Generator) -> None:
    heads, kv_heads, head_dim, window = RELEASED[name]
    q, k, v = inputs(rng, 70, heads, kv_heads, head_dim)
    for chunks in ([70], [1] * 70, [16] * 4 + [6]):
        assert_within(kernels.attention(isa, q, k, v, chunks, window), *attention(q, k, v, window))


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("window", [0, 1, 2, 3, 5, 16, 17, 33])
def test_every_head_dimension_and_window_is_right(
    isa: str, head_dim: int, window: int, rng: np.random.Generator
) -> None:
    q, k, v = inputs(rng, 53, 2, 1, head_dim)
    expected, error = attention(q, k, v, window)
    for chunks in ([53], [1] * 53, [7, 40, 6]):
        assert_within(kernels.attention(isa, q, k, v, chunks, window), expected, error, f"{len(chunks)} chunks:")


@pytest.mark.parametrize("rows", [*range(1, 22), 31, 32, 33])
def test_every_number_of_rows_is_right(isa: str, rows: int, rng: np.random.Generator) -> None:
    q, k, v = inputs(rng, rows, 2, 2, 16)
    assert_within(kernels.attention(isa, q, k, v, [rows]), *attention(q, k, v))


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
def test_grouped_heads_share_their_keys(isa: str, kv_heads: int, rng: np.random.Generator) -> None:
    q, k, v = inputs(rng, 20, 6, kv_heads, 24)
    grouped = kernels.attention(isa, q, k, v, [20])
    assert_within(grouped, *attention(q, k, v))
    spread = [np.repeat(a, 6 // kv_heads, axis=1) for a in (k, v)]
    assert_same_bits(kernels.attention(isa, q, *spread, [20]), grouped)


@pytest.mark.parametrize("window", [0, 1, 3, 16, 20, 50])
@pytest.mark.parametrize("head_dim", [8, 64, 80])
def test_any_chunking_gives_the_bits_of_the_whole(
    isa: str, head_dim: int, window: int, rng: np.random.Generator
) -> None:
    q, k, v = inputs(rng, 200, 2, 1, head_dim)
    whole = kernels.attention(isa, q, k, v, [200], window)
    for chunks in [*(random_split(rng, 200) for _ in range(5)), [1] * 200, [16] * 12 + [8], [3] * 66 + [2]]:
        assert_same_bits(kernels.attention(isa, q, k, v, chunks, window), whole, f"{chunks}:")


def test_a_window_slides_for_a_thousand_rows(isa: str, rng: np.random.Generator) -> None:
    q, k, v = inputs(rng, 1000, 2, 2, 32)
    expected, error = attention(q, k, v, 50)
    for chunks in ([1] * 1000, [16] * 62 + [8], [1000]):
        assert_within(kernels.attention(isa, q, k, v, chunks, 50), expected, error, f"{len(chunks)} chunks:")


def test_a_growing_cache_holds_for_a_thousand_rows(isa: str, rng: np.random.Generator) -> None:
    q, k, v = inputs(rng, 1000, 3, 1, 64)
    expected, error = attention(q, k, v)
    whole = kernels.attention(isa, q, k, v, [1000])
    assert_within(whole, expected, error)
    assert_same_bits(kernels.attention(isa, q, k, v, [125] + [1] * 875), whole)


def test_vector_sets_give_the_same_bits(vector_isas: tuple[str, ...], rng: np.random.Generator) -> None:
    for head_dim in HEAD_DIMS:
        for window in (0, 3, 20):
            q, k, v = inputs(rng, 75, 4, 2, head_dim)
            chunks = random_split(rng, 75)
            first, *others = (kernels.attention(isa, q, k, v, chunks, window) for isa in vector_isas)
            for other in others:
                assert_same_bits(other, first, f"head_dim {head_dim}, window {window}:")


@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("window", [0, 6])
def test_rows_that_a_query_does_not_see_never_reach_it(
    isa: str, part: str, bad: float, window: int, rng: np.random.Generator
) -> None:
    q, k, v = inputs(rng, 40, 2, 1, 24)
    clean = kernels.attention(isa, q, k, v, [40], window)
    for row in (0, 1, 6, 15, 16, 18, 39):
        spoilt = {"q": q.copy(), "k": k.copy(), "v": v.copy()}
        spoilt[part][row] = bad
        sees = np.arange(40) == row if part == "q" else np.arange(40) >= row
        if part != "q" and window > 0:
            sees &= np.arange(40) < row + window
        for chunks in ([40], [1] * 40, [5, 30, 5]):
            out = kernels.attention(isa, **spoilt, chunks=chunks, window=window)
            assert_same_bits(out[~sees], clean[~sees], f"row {row}, {len(chunks)} chunks:")
            if np.isnan(bad):
                assert np.isnan(out[sees]).all()


def test_a_query_sees_itself_alone_in_the_first_row(isa: str, rng: np.random.Generator) -> None:
    q, k, v = inputs(rng, 1, 4, 2, 24)
    np.testing.assert_array_equal(kernels.attention(isa, q, k, v, [1]), np.repeat(v, 2, axis=1))


def test_equal_scores_give_the_mean_of_the_values(isa: str) -> None:
    k = np.zeros((64, 1, 16), np.float32)
    v = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None, None], k.shape).copy()
    out = kernels.attention(isa, k, k, v, [64])
    # Weights are exactly 1 and all sums whole numbers: only the reciprocal and the product round.
    np.testing.assert_allclose(out[:, 0, 0], np.arange(64) / 2, rtol=2.0**-23)


@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize("head_dim", [16, 64])
def test_extreme_scores_pick_the_highest(isa: str, size: float, head_dim: int, rng: np.random.Generator) -> None:
    # Each query picks one component of the keys: a score is one product, scaled by a power of two, so exact.
    q, k, v = inputs(rng, 60, 1, 1, head_dim)
    k = rng.integers(-128, 129, k.shape).astype(np.float32)
    pick = np.eye(head_dim, dtype=np.float32)[rng.integers(0, head_dim, 60)]
    q = (pick * np.float32(size * np.sqrt(head_dim) / 128))[:, None, :]
    expected, error = attention(q, k, v)
    scores = np.einsum("ihd,thd->it", q.astype(np.float64), k) / np.sqrt(head_dim)
    assert np.abs(scores).max() == size
    out = kernels.attention(isa, q, k, v, [60])
    assert_within(out, expected, error)
    assert_within(kernels.attention(isa, q, k, v, [1] * 60), expected, error)


def test_a_key_that_is_far_ahead_takes_all_the_weight(isa: str, rng: np.random.Generator) -> None:
    for sign in (1.0, -1.0):
        q, k = np.full((2, 30, 1, 16), 1.0, np.float32)
        v = rng.standard_normal((30, 1, 16), dtype=np.float32)
        k *= np.float32(sign * 2500 - 100)
        k[7] = np.float32(sign * 2500)
        out = kernels.attention(isa, q, k, v, [30])
        np.testing.assert_array_equal(out[7:], np.broadcast_to(v[7], out[7:].shape))


def test_inputs_that_do_not_fit_are_refused() -> None:
    q, k = np.zeros((4, 3, 8), np.float32), np.zeros((4, 2, 8), np.float32)
    with pytest.raises(ValueError, match="3 query heads do not divide over 2 key heads"):
        kernels.attention("scalar", q, k, k, [4])
    with pytest.raises(ValueError, match="chunks do not sum to the 4 rows"):
        kernels.attention("scalar", q, q, q, [3])
    with pytest.raises(ValueError, match=r"k and v must be \[4, 3, 8\]"):
        kernels.attention("scalar", q, q, q[:3], [4])
