"""Streaming transposed conv1d in float64, from the formulas in csrc/kernels/conv_transpose1d.h."""

import numpy as np

from reference.activation import activate, own_error
from reference.rounding import gamma, rounded


def conv_transpose1d(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1, before: str = "none"
) -> tuple[np.ndarray, np.ndarray]:
    """x [rows, in], weight [in, out, kernel] -> y [rows * stride, out] and the bound of a kernel's error."""
    channels, outputs, kernel = weight.shape
    weight = weight.astype(np.float64)
    x_error = own_error(before, x)
    x = activate(before, x)
    overlaps = -(-kernel // stride)  # products that meet on one row: as many additions at most
    y = np.zeros(((len(x) - 1) * stride + kernel, outputs))
    error = np.zeros_like(y)
    for t in range(len(x)):
        row_error = x_error[t] + gamma(channels + overlaps) * np.abs(x[t])
        for tap in range(kernel):
            y[t * stride + tap] += x[t] @ weight[:, :, tap]
            error[t * stride + tap] += row_error @ np.abs(weight[:, :, tap])
    y, error = y[: len(x) * stride], error[: len(x) * stride]  # the rest waits for the next rows
    if bias is not None:
        y = y + bias
        error = rounded(y, error)
    return y, error * (1.0 + 1e-5)


def depthwise_upsample(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [rows, channels], weight [channels, 1, 2 * stride] -> y [rows * stride, channels] and a bound."""
    channels, _, kernel = weight.shape
    stride = kernel // 2
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    y = np.zeros((len(x) * stride + stride, channels))
    terms = np.zeros_like(y)
    for t in range(len(x)):
        for tap in range(kernel):
            y[t * stride + tap] += x[t] * weight[:, 0, tap]
            terms[t * stride + tap] += np.abs(x[t] * weight[:, 0, tap])
    rows = len(x) * stride
    return y[:rows], gamma(3) * terms[:rows]  # two products and their sum
