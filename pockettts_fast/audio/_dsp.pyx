# cython: language_level=3, freethreading_compatible=True
"""Sample loops of the audio layer. Arrays are 1-D, C-contiguous, in samples; a wrong type or shape is a ValueError.

No function here allocates more than its output, and every loop runs with the GIL released. Rounding
matters: ramps are evaluated in double and rounded once, so that the result is the same on every machine
whether or not its compiler fuses multiply and add.
"""

cimport cython
from libc.math cimport M_PI, exp

import numpy as np


def float_to_int16(const float[::1] x not None):
    """int16 [T] = float32 [T] clipped to [-1, 1], times 32767 in float32, truncated toward zero.

    The conversion of upstream's `data/audio.py` writer. NaN becomes 0 (what the x86 conversion behind
    `torch.Tensor.short` leaves in the low 16 bits), infinities become +-32767.
    """
    cdef Py_ssize_t n = x.shape[0], i
    out = np.empty(n, dtype=np.int16)
    cdef short[::1] y = out
    cdef float v
    with nogil, cython.boundscheck(False), cython.wraparound(False):
        for i in range(n):
            v = x[i]
            if v != v:
                v = 0.0
            elif v > 1.0:
                v = 1.0
            elif v < -1.0:
                v = -1.0
            y[i] = <short>(v * <float>32767.0)
    return out


cdef inline float ramp_at(Py_ssize_t i, Py_ssize_t n, double step) noexcept nogil:
    # One value of a rising ramp of n points, measured from the nearer end as torch.linspace does. `step`
    # holds a float32 value, so product and sum are exact in double: the single rounding of a fused multiply-add.
    if i < n // 2:
        return <float>(step * <double>i)
    return <float>(1.0 - step * <double>(n - 1 - i))


cdef inline float falling_ramp_at(Py_ssize_t i, Py_ssize_t n, double step) noexcept nogil:
    if i < n // 2:
        return <float>(1.0 - step * <double>i)
    return <float>(step * <double>(n - 1 - i))


cdef double ramp_step(Py_ssize_t n) except -1.0:
    if n < 0:
        raise ValueError(f"a fade has 0 or more samples, got {n}")
    return <double>(<float>1.0 / <float>(n - 1)) if n > 1 else 0.0


def fade_in_inplace(float[::1] x not None, Py_ssize_t n):
    """Multiply the first min(n, T) samples of x [T] by the first values of a rising ramp 0..1 of n points.

    The ramp equals `torch.linspace(0, 1, n)` in float32 bit for bit (on a CPU with FMA). Upstream's
    `_decode_audio_worker` applies n = sample_rate // 200 (5 ms) to the first frames of a chunk, and a
    first call shorter than the ramp keeps only its part: this does the same. n = 1 gives silence at x[0].
    """
    cdef Py_ssize_t i, count = min(n, x.shape[0])
    cdef double step = ramp_step(n)
    with nogil, cython.boundscheck(False), cython.wraparound(False):
        if n == 1 and count == 1:
            x[0] = x[0] * 0.0
        else:
            for i in range(count):
                x[i] = x[i] * ramp_at(i, n, step)


def fade_out_inplace(float[::1] x not None, Py_ssize_t n):
    """Multiply the last min(n, T) samples of x [T] by the last values of a falling ramp 1..0 of n points.

    The ramp equals `torch.linspace(1, 0, n)` in float32 bit for bit (on a CPU with FMA); n = 1 is a
    factor of 1, as there.
    """
    cdef Py_ssize_t i, size = x.shape[0], count = min(n, x.shape[0])
    cdef double step = ramp_step(n)
    with nogil, cython.boundscheck(False), cython.wraparound(False):
        if n > 1:
            for i in range(n - count, n):
                x[size - n + i] = x[size - n + i] * falling_ramp_at(i, n, step)


def peak(const float[::1] x not None):
    """Largest |x| of x [T] as a float; 0.0 for an empty array. NaN samples are skipped."""
    cdef Py_ssize_t n = x.shape[0], i
    cdef float v, largest = 0.0
    with nogil, cython.boundscheck(False), cython.wraparound(False):
        for i in range(n):
            v = x[i]
            if v < 0.0:
                v = -v
            if v > largest:
                largest = v
    return <double>largest


cdef class DcBlock:
    """One-pole DC blocker with state: y[t] = x[t] - x[t-1] + r y[t-1], r = exp(-2 pi cutoff_hz / sample_rate).

    The state is kept in double between calls, so any split of a signal into chunks gives the samples of
    one call, bit for bit. One object serves one stream; it is not safe to share between threads.
    """

    cdef double pole, last_input, last_output

    def __init__(self, double cutoff_hz, int sample_rate):
        if sample_rate <= 0 or not 0.0 < cutoff_hz < 0.5 * sample_rate:
            raise ValueError(
                f"the cutoff of a DC blocker lies between 0 and half of the sample rate, "
                f"got {cutoff_hz} Hz at {sample_rate} Hz"
            )
        self.pole = exp(-2.0 * M_PI * cutoff_hz / sample_rate)
        self.reset()

    cpdef void reset(self) noexcept:
        """Forget the past: the next sample starts a new signal preceded by silence."""
        self.last_input = 0.0
        self.last_output = 0.0

    def process(self, const float[::1] x not None):
        """Next chunk x float32 [T] -> float32 [T]; T may be 0."""
        cdef Py_ssize_t n = x.shape[0], i
        out = np.empty(n, dtype=np.float32)
        cdef float[::1] y = out
        cdef double before = self.last_input, value = self.last_output
        with nogil, cython.boundscheck(False), cython.wraparound(False):
            for i in range(n):
                value = (<double>x[i] - before) + self.pole * value
                before = x[i]
                y[i] = <float>value
        self.last_input = before
        self.last_output = value
        return out


def polyphase(
    const float[::1] x not None,
    const double[::1] half_filter not None,
    Py_ssize_t up,
    Py_ssize_t down,
    Py_ssize_t outputs,
):
    """Upsample by `up`, filter, downsample by `down`, keeping `outputs` samples aligned with the input.

    With h[-H..H] symmetric and half_filter = h[0..H] (H + 1 values):

        y[n] = sum_i x[i] h[n down - i up],    n = 0 .. outputs - 1,    x = 0 outside of its T samples

    x float32 [T] -> y float32 [outputs], summed in double. Zero-stuffed samples are never visited: about
    (2 H + 1) / up products an output. Each output is summed in the same order whatever T is.
    """
    cdef Py_ssize_t n_in = x.shape[0], reach = half_filter.shape[0] - 1
    if up < 1 or down < 1 or outputs < 0 or reach < 0:
        raise ValueError("polyphase needs up >= 1, down >= 1, outputs >= 0 and a filter of at least one value")
    out = np.empty(outputs, dtype=np.float32)
    cdef float[::1] y = out
    cdef Py_ssize_t whole = down // up, rest = down % up
    cdef Py_ssize_t centre = 0, phase = 0, n, i, distance
    cdef double before, after
    with nogil, cython.boundscheck(False), cython.wraparound(False):
        for n in range(outputs):
            # n * down = centre * up + phase, stepped to stay clear of overflow and division.
            before = 0.0
            i = centre
            distance = phase
            if i >= n_in:
                distance += (i - (n_in - 1)) * up
                i = n_in - 1
            while i >= 0 and distance <= reach:
                before += <double>x[i] * half_filter[distance]
                i -= 1
                distance += up
            after = 0.0
            i = centre + 1
            distance = up - phase
            while i < n_in and distance <= reach:
                after += <double>x[i] * half_filter[distance]
                i += 1
                distance += up
            y[n] = <float>(before + after)
            centre += whole
            phase += rest
            if phase >= up:
                phase -= up
                centre += 1
    return out
