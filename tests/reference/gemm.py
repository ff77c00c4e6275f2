"""The linear layer with its epilogue in float64: residual + scale * activation(x w^T + bias)."""

from dataclasses import dataclass

import numpy as np

from reference.activation import activate, activation_error
from reference.rounding import gamma, rounded


@dataclass(frozen=True)
class Linear:
    """x [rows, depth] times weight [cols, depth]; bias and scale [cols], residual [rows, cols]."""

    weight: np.ndarray
    bias: np.ndarray | None = None
    activation: str = "none"
    scale: np.ndarray | None = None

    def __call__(self, x: np.ndarray, residual: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The exact result and the bound of a float32 kernel's error."""
        x, weight = x.astype(np.float64), self.weight.astype(np.float64)
        y = x @ weight.T
        # One rounding a step of the chain, fused or not (the first addition, to zero, is exact).
        error = gamma(weight.shape[1]) * (np.abs(x) @ np.abs(weight).T)
        if self.bias is not None:
            y = y + self.bias
            error = rounded(y, error)
        error = activation_error(self.activation, y, error)
        y = activate(self.activation, y)
        if self.scale is not None:
            y = y * self.scale
            error = rounded(y, error * np.abs(self.scale))
        if residual is not None:
            y = y + residual
            error = rounded(y, error)
        return y, error
