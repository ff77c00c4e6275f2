"""Causal softmax attention in float64, from the formula in csrc/kernels/attention.h."""

import numpy as np

from reference.activation import EXP
from reference.rounding import UNIT, gamma


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, window: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """q [rows, heads, D], k and v [rows, kv_heads, D] -> [rows, heads, D] and the bound of a kernel's error.

    Row i sees rows [max(0, i + 1 - window), i], all of them up to i for window 0.
    """
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    rows, heads, head_dim = q.shape
    group = heads // k.shape[1]
    scale = 1.0 / np.sqrt(head_dim)
    out, error = np.zeros_like(q), np.zeros_like(q)
    for head in range(heads):
        keys, values = k[:, head // group], v[:, head // group]
        for i in range(rows):
            lo = max(0, i + 1 - window) if window > 0 else 0
            seen, weighed = keys[lo : i + 1], values[lo : i + 1]
            scores = seen @ q[i, head] * scale
            p = np.exp(scores - scores.max())
            p /= p.sum()
            out[i, head] = p @ weighed
            # A score: the chain over D, then the scale (itself two roundings) and its product.
            off = gamma(head_dim + 3) * scale * (np.abs(seen) @ np.abs(q[i, head]))
            # Its weight: the score's error and the rounding of the distance to the peak, through exp, plus
            # exp's own error. The peak is the same number above and below the fraction and cancels.
            off = np.expm1(off + UNIT * (scores.max() - scores) + off[scores.argmax()]) + EXP
            # The fraction: both sums carry the weights' errors; additions, reciprocal and product round.
            steps = gamma(len(p) + len(p) / 16 + 9)
            # Weights below e^-87 become 0.
            error[i, head] = (p * (off + steps) + np.exp(-87.0)) @ np.abs(weighed)
            error[i, head] += (p @ off) * (p @ np.abs(weighed))
    return out, error * (1.0 + 1e-3)
