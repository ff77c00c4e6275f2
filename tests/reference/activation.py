"""The activations in float64, and how far a float32 kernel may be from them.

The bounds follow csrc/simd/vec_math-inl.h: exp is within EXP of the truth relatively, every other operation
adds one rounding.
"""

import numpy as np

from reference.rounding import SMALLEST, UNIT

EXP = 1.2e-7  # the bound stated for vexp
SATURATED = np.exp(-88.0) * (1 + 1e-6)  # exp stops growing at e^88, so 1 / (1 + e^z) goes no lower
LIPSCHITZ = {"none": 1.0, "elu": 1.0, "silu": 1.1, "gelu_tanh": 1.13}


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def gelu_argument(x: np.ndarray) -> np.ndarray:
    """z of gelu_tanh(x) = x sigmoid(z)."""
    return np.sqrt(8.0 / np.pi) * (x + 0.044715 * x**3)


def activate(name: str, x: np.ndarray) -> np.ndarray:
    """One of none, exp, elu, silu, gelu_tanh, element by element in float64."""
    x = np.asarray(x, np.float64)
    if name == "none":
        return x
    if name == "exp":
        return np.exp(x)
    if name == "elu":
        return np.where(x < 0, np.expm1(np.minimum(x, 0.0)), x)
    if name == "silu":
        return x * sigmoid(x)
    if name == "gelu_tanh":
        return x * sigmoid(gelu_argument(x))
    raise ValueError(f"no reference for the activation {name!r}")


def own_error(name: str, x: np.ndarray) -> np.ndarray:
    """Bound of |kernel(x) - activate(x)| for exact x."""
    x = np.asarray(x, np.float64)
    y = np.abs(activate(name, x))
    if name == "none":
        return np.zeros_like(x)
    if name == "exp":
        # Below -87 the kernel gives 0 where the truth is at most e^-87.
        return np.where(x < -87.0, y, EXP * y)
    if name == "elu":
        # e^r - 1 like exp, times 2^n, plus 2^n - 1: e^r - 1 and the sum round, and 2^n - 1 once more.
        # The part that carries the error of e^r - 1 is smaller than the result, so EXP + 2 roundings hold.
        return np.where(x < 0, (EXP + 2 * UNIT) * y, 0.0)
    # x / (1 + e^-z): the error of exp, the sum, the quotient, and the floor where exp saturates.
    error = (EXP + 2 * UNIT) * y + np.abs(x) * SATURATED + SMALLEST
    if name == "gelu_tanh":
        # z takes six roundings (two constants, four operations); d log sigmoid / dz = sigmoid(-z).
        z = gelu_argument(x)
        error += y * np.expm1(np.minimum(6 * UNIT * np.abs(z) * sigmoid(-z), 1.0))
    return error


def activation_error(name: str, x: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Bound of |kernel(x + e) - activate(x)| for |e| <= error."""
    return own_error(name, x) * (1.0 + 1e-3) + LIPSCHITZ[name] * error * (1.0 + 1e-5)
