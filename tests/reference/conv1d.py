"""Causal conv1d in float64, from the formula in csrc/kernels/conv1d.h."""

import numpy as np

from reference.activation import activate, own_error
from reference.rounding import gamma, rounded


def conv1d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int = 1,
    dilation: int = 1,
    replicate: bool = False,
    before: str = "none",
) -> tuple[np.ndarray, np.ndarray]:
    """x [rows, in], weight [out, in, kernel] -> y [rows / stride, out] and the bound of a kernel's error."""
    outputs, channels, kernel = weight.shape
    pad = (kernel - 1) * dilation + 1 - stride
    weight = weight.astype(np.float64)
    x_error = own_error(before, x)
    x = activate(before, x)

    def before_first(values: np.ndarray) -> np.ndarray:
        first = values[:1] if replicate else np.zeros((1, channels))
        return np.concatenate([np.repeat(first, pad, axis=0), values])

    joined, joined_error = before_first(x), before_first(x_error)
    y = np.zeros((len(x) // stride, outputs))
    error = np.zeros_like(y)
    for t in range(len(y)):
        for tap in range(kernel):
            row, row_error = joined[t * stride + tap * dilation], joined_error[t * stride + tap * dilation]
            y[t] += weight[:, :, tap] @ row
            error[t] += np.abs(weight[:, :, tap]) @ (row_error + gamma(kernel * channels) * np.abs(row))
    if bias is not None:
        y = y + bias
        error = rounded(y, error)
    return y, error * (1.0 + 1e-5)
