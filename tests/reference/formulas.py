"""The small formulas of all blocks, in the precision (float64 or float32) of their arguments."""

from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]


def in_precision(weights: Weights, dtype: type) -> dict[str, np.ndarray]:
    """The checkpoint with every tensor in one precision, which decides that of all results."""
    return {name: values.astype(dtype) for name, values in weights.items()}


def product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x [rows, in] weight [out, in]^T; in float32 summed in sequence, one rounding an operation."""
    if x.dtype == np.float64:
        return x @ weight.T
    y = np.zeros((len(x), len(weight)), x.dtype)
    for k in range(x.shape[1]):
        y += x[:, k, None] * weight[:, k]
    return y


def linear(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """torch.nn.Linear, with its bias where it has one."""
    y = product(x, weights[f"{name}.weight"])
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def layer_norm(x: np.ndarray, eps: float) -> np.ndarray:
    """(x - mean) / sqrt(var + eps) with the biased variance, without affine."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + x.dtype.type(eps))


def affine_norm(weights: Weights, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    """torch.nn.LayerNorm."""
    return layer_norm(x, eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.expm1(np.minimum(x, 0)), x)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The tanh form (trap 4), not erf."""
    inner = x.dtype.type(np.sqrt(2 / np.pi)) * (x + x.dtype.type(0.044715) * x**3)
    return x.dtype.type(0.5) * x * (1 + np.tanh(inner))
