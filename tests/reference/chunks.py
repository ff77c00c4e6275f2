"""Splitting a sequence of rows into the chunks of a stream."""

import itertools

import numpy as np


def random_split(rng: np.random.Generator, total: int, multiple: int = 1, empty: bool = True) -> list[int]:
    """Sizes that sum to total, each a multiple of `multiple`; some may be zero."""
    cuts = np.sort(rng.integers(0, total // multiple + 1, size=rng.integers(1, 9)))
    if not empty:
        cuts = np.unique(cuts[(cuts > 0) & (cuts < total // multiple)])
    return [int(n) * multiple for n in np.diff(cuts, prepend=0, append=total // multiple)]


def cut(x: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """x cut along its first axis."""
    edges = np.cumsum([0, *sizes])
    return [np.ascontiguousarray(x[a:b]) for a, b in itertools.pairwise(edges)]
