"""Layer norm in float64, from the formula in csrc/isa/table.h."""

import numpy as np

from reference.rounding import UNIT, gamma, rounded


def layer_norm(
    x: np.ndarray,
    eps: float,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    scale: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """x [rows, n] -> (x - mean) / sqrt(var + eps) [* weight + bias] [* (1 + scale) + shift], and a bound."""
    x = x.astype(np.float64)
    n = x.shape[1]
    mean = x.mean(axis=1, keepdims=True)
    centred = x - mean
    std = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float64(np.float32(eps)))
    y = centred / std

    steps = n / 16 + 6  # sixteen lanes in sequence, four folds, a division
    mean_error = gamma(steps) * np.abs(x).mean(axis=1, keepdims=True)
    centred_error = mean_error + UNIT * (np.abs(centred) + mean_error)
    # A wrong mean shifts every element alike, so the deviation is off by no more than the elements are;
    # the sum of squares, eps, root and reciprocal round.
    rms = np.sqrt((centred_error**2).mean(axis=1, keepdims=True))
    std_error = rms + gamma(steps / 2 + 5) * (std + rms)
    error = rounded(y, (centred_error + np.abs(y) * std_error) / (std - np.minimum(std_error, std / 2)))
    if weight is not None:
        y = y * weight
        error = rounded(y, error * np.abs(weight))
    if bias is not None:
        y = y + bias
        error = rounded(y, error)
    if scale is not None and shift is not None:
        factor = 1.0 + scale.astype(np.float64)
        error = error * np.abs(factor) + UNIT * np.abs(y * factor)
        y = y * factor + shift
        error = rounded(y, error, 2)
    return y, error * (1.0 + 1e-5)
