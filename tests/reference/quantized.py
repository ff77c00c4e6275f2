"""int8 and bfloat16 products: the values the kernels have to give, bit for bit, and their distance from the
truth.

The quantisation is part of the contract (csrc/kernels/gemm.h), so these references repeat its float32
operations one by one; the sums between them are exact (int8) or one rounding each (bfloat16: the product of
two 8-bit significands fits a float32).
"""

from dataclasses import dataclass

import numpy as np

from reference.rounding import SMALLEST, gamma, rounded

LEVELS = np.float32(127)
SMALLEST_PEAK = np.float32(1e-30)  # a row or column with nothing above it counts as zero
SMALLEST_NORMAL = 2.0**-126
BF16_UNIT = 2.0**-8  # half the distance from 1 to the next bfloat16


def quantize(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [rows, depth] -> whole numbers in [-127, 127] and a float32 scale for each row.

    A row with a NaN or an infinity gets zeros and the scale NaN.
    """
    finite = np.isfinite(x).all(axis=1)
    peak = np.abs(np.where(finite[:, None], x, np.float32(0))).max(axis=1, initial=np.float32(0))
    counts = peak >= SMALLEST_PEAK
    inverse = np.divide(LEVELS, peak, out=np.zeros_like(peak), where=counts)
    safe = np.where(finite[:, None], x, np.float32(0))
    scale = np.where(finite, np.where(counts, peak / LEVELS, np.float32(0)), np.float32(np.nan))
    numbers = np.clip(np.rint(safe * inverse[:, None]), -127, 127)
    return numbers.astype(np.int64), scale.astype(np.float32)


def to_bf16(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16, ties to even, as float32; subnormal numbers become zero with their sign."""
    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
        near = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    near = np.where(np.abs(x) < np.float32(SMALLEST_NORMAL), np.copysign(np.float32(0), x), near)
    return np.where(np.isnan(x), np.float32(np.nan), near).astype(np.float32)


@dataclass(frozen=True)
class Linear:
    """residual + scale * (x weight^T + bias) with the operands in ``precision``: "int8" or "bf16"."""

    precision: str
    weight: np.ndarray
    bias: np.ndarray | None = None
    scale: np.ndarray | None = None

    def __call__(self, x: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
        """float32 [rows, cols], the kernel's result without an activation to the last bit."""
        y = self._int8(x) if self.precision == "int8" else self._bf16(x)
        assert y.dtype == np.float32
        if self.bias is not None:
            y = y + self.bias
        if self.scale is not None:
            y = y * self.scale
        if residual is not None:
            y = y + residual
        return y

    def _int8(self, x: np.ndarray) -> np.ndarray:
        rows, row_scale = quantize(x)
        columns, column_scale = quantize(self.weight)
        # Exact in float64: below 2^31 for any depth that is allowed. Then one rounding to float32.
        sums = (rows.astype(np.float64) @ columns.astype(np.float64).T).astype(np.float32)
        return sums * (column_scale[None, :] * row_scale[:, None])

    def _bf16(self, x: np.ndarray) -> np.ndarray:
        a, w = to_bf16(x), to_bf16(self.weight)
        if a.shape[1] % 2:
            a, w = (np.pad(part, ((0, 0), (0, 1))) for part in (a, w))
        y = np.zeros((len(a), len(w)), np.float32)
        for k in range(0, a.shape[1], 2):
            for i in (k + 1, k):
                y = a[:, i, None] * w[None, :, i] + y
        return y


def int8_error(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Bound of |int8 product - x weight^T| [rows, cols], from csrc/kernels/gemm.h.

    Both operands are off by at most half a step, max / 254, and the rounding of their scales (a division, a
    product, a division: 4 UNIT of 127 steps); the rest is the product of both errors and four last roundings.
    """
    half = 0.5 + 127 * gamma(4)
    a, w = np.abs(x.astype(np.float64)), np.abs(weight.astype(np.float64))
    a_step = a.max(axis=1, keepdims=True) / 127 * half
    w_step = w.max(axis=1, keepdims=True) / 127 * half
    depth = x.shape[1]
    error = a_step * w.sum(axis=1)[None, :] + w_step.T * a.sum(axis=1, keepdims=True) + depth * a_step * w_step.T
    return rounded(a @ w.T, error, 4)


def bf16_error(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Bound of |bfloat16 product - x weight^T|: one rounding each operand, one of float32 a step of depth."""
    sizes = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)).T
    operands = (1 + BF16_UNIT) ** 2 - 1
    depth = x.shape[1]
    return sizes * (operands + gamma(depth + 1) * (1 + operands)) + depth * (SMALLEST + SMALLEST_NORMAL)
