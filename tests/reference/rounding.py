"""How float32 rounding enters the error bounds of the references."""

import numpy as np

UNIT = 2.0**-24  # half the distance from 1 to the next float32: one rounding costs this, relatively
SMALLEST = 2.0**-149  # the smallest denormal, half of which one rounding near zero costs


def gamma(roundings: float) -> float:
    """Relative error of a chain of so many roundings (Higham, Accuracy and Stability, lemma 3.1)."""
    return roundings * UNIT / (1.0 - roundings * UNIT)


def rounded(value: np.ndarray, error: np.ndarray, roundings: int = 1) -> np.ndarray:
    """The error of `value` after more roundings of a result that already carries `error`."""
    return error + gamma(roundings) * (np.abs(value) + error) + roundings * SMALLEST


def assert_within(actual: np.ndarray, expected: np.ndarray, error: np.ndarray, what: str = "") -> None:
    """Every element of `actual` is a number no further from `expected` than `error`."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape, what
    distance = np.abs(actual - expected)
    wrong = ~(distance <= error)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{what} {int(wrong.sum())} of {wrong.size} elements are off, first at {at}: "
            f"{actual[at]} instead of {expected[at]}, distance {distance[at]:.3g}, allowed {error[at]:.3g}"
        )


def assert_same_bits(one: np.ndarray, other: np.ndarray, what: str = "") -> None:
    """Equal to the last bit, NaN and the sign of zero included."""
    assert one.shape == other.shape, what
    different = np.ascontiguousarray(one).view(np.uint32) != np.ascontiguousarray(other).view(np.uint32)
    if different.any():
        at = tuple(int(i) for i in np.argwhere(different)[0])
        raise AssertionError(
            f"{what} {int(different.sum())} of {different.size} elements differ, first at {at}: "
            f"{one[at]!r} and {other[at]!r}"
        )
