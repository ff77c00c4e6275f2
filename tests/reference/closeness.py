"""How far a float32 network may be from its float64 formula.

The formulas in this folder run in the precision of what they are given. In float32 they round after every
operation and sum in sequence, as the kernels may (those fuse some pairs of roundings into one). So the
distance between a formula's float32 and its float64 result is a sample of the rounding error of this very
network for this very input, depth and conditioning included, and a right implementation has an error of
the same size: the same number of roundings, other signs.
"""

import numpy as np

from reference.rounding import UNIT

# Two samples of the same error differ in size by their scatter (few elements of a tiny network move
# together) and by the kernels' exp and tanh, whose own error is up to 2 UNIT instead of 1.
RMS_MARGIN = 4.0
# The largest of N normal values is below 6 deviations for any N in these tests; a factor for each side.
PEAK_MARGIN = 12.0


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def assert_close(actual: np.ndarray, exact: np.ndarray, single: np.ndarray) -> None:
    """`actual` is as close to the float64 result `exact` as the float32 formula's `single` is."""
    assert actual.shape == exact.shape == single.shape
    assert exact.dtype == np.float64
    assert single.dtype == np.float32
    assert np.isfinite(actual).all()
    scale = rms(exact)
    assert scale > 0
    error = rms(single - exact) + UNIT * scale
    assert error < 1e-4 * scale, "the formula itself is too badly conditioned to compare with"
    off = actual - exact
    assert rms(off) <= RMS_MARGIN * error
    assert np.abs(off).max() <= PEAK_MARGIN * error + RMS_MARGIN * UNIT * np.abs(exact).max()


def assert_far(actual: np.ndarray, exact: np.ndarray, single: np.ndarray) -> None:
    """The opposite, for a wrong formula: a test that cannot tell it from the right one shows nothing."""
    try:
        assert_close(actual, exact, single)
    except AssertionError:
        return
    raise AssertionError("the wrong formula gives the same values")
