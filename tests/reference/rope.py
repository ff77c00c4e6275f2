"""Rotary embedding of interleaved pairs in float64 (arXiv:2104.09864)."""

import numpy as np

from reference.rounding import gamma


def rope(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [heads, D], cosine and sine [D / 2] -> the pairs (2i, 2i + 1) turned by angle i, and a bound."""
    pairs = x.astype(np.float64).reshape(len(x), -1, 2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * (cosine.astype(np.float64) + 1j * sine.astype(np.float64))
    c, s = np.abs(cosine.astype(np.float64)), np.abs(sine.astype(np.float64))
    real, imaginary = np.abs(pairs[..., 0]), np.abs(pairs[..., 1])
    terms = np.stack([real * c + imaginary * s, real * s + imaginary * c], axis=-1)
    y = np.stack([turned.real, turned.imag], axis=-1)
    return y.reshape(x.shape), gamma(2) * terms.reshape(x.shape)  # a product, a sum
