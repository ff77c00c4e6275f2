"""Noise for the flow head, equal to what PyTorch draws on a CPU from the same seed.

The original draws one ``[1, dim]`` tensor per call of its language model with
``torch.nn.init.normal_`` or, when a clamp is given, ``torch.nn.init.trunc_normal_`` (upstream:
``pocket_tts.models.flow_lm.FlowLMModel.forward``), after a ``torch.manual_seed`` by the user. The stream
below repeats those draws from the same Mersenne Twister words (Matsumoto and Nishimura 1998):

- ``dim >= 16``: float32 uniforms of 24 bits, one word each, then Box-Muller over blocks of 16 in which
  value j is the partner of value j + 8. A ``dim`` that is no multiple of 16 draws 16 more words and
  computes its last 16 values from them.
- ``dim < 16``: float64 Box-Muller from 53-bit uniforms, two words each. The second value of a pair is
  kept in the generator, so an odd ``dim`` hands one over to the next draw.
- a clamp: rejection. Whole rows are proposed until every column has accepted once, and a column keeps
  its first accepted value. Proposals are normal rows where more than 0.3 of the mass lies inside the
  clamp, otherwise uniform rows that are accepted with the ratio of the densities.

Transcendental functions are evaluated in float64 and rounded, torch's own are vectorised float32: the
values agree to 4 units in the last place, the words consumed agree exactly.
"""

import math
import operator
import os
from typing import Any

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_LOWEST_SEED = -(2**63)
_HIGHEST_SEED = 2**64 - 1
_ROWS_PER_BLOCK = 64
# trunc_normal_ proposes from the normal itself above this acceptance, and from a uniform below it.
_NORMAL_PROPOSAL_ACCEPTANCE = 0.3


class NoiseSource:
    """The stream of starting points of one utterance's flow head.

    Not thread-safe: each stream owns one.

    Args:
        seed: what ``torch.manual_seed`` would get, ``-2**63`` to ``2**64 - 1``; ``None`` takes 32 bits
            from the operating system.
        dim: width of a draw (the latent dimension), at least 1.
        temperature: variance of the normal distribution. 0 gives zeros, and the generator advances all
            the same.
        clamp: bound on the magnitude, by truncating the distribution; ``None`` for no bound. Unlike the
            original, which divides by zero, temperature 0 with a clamp gives zeros.

    Raises:
        ValueError: an argument is outside its range.
        TypeError: the seed or the width is not an integer.
    """

    def __init__(self, seed: int | None, dim: int, temperature: float, clamp: float | None) -> None:
        self._dim = _checked_dim(dim)
        std = _checked_std(temperature)
        _check_clamp(clamp)
        self._words = _mersenne_twister(seed)
        self._std = np.float32(std)
        # The scalar path multiplies in float64, the block path in float32.
        self._std64 = std
        self._clamp = clamp
        self._always_zero = clamp is not None and std == 0.0
        self._uniform_proposals = (
            clamp is not None and std > 0.0 and _mass_inside(clamp, std) <= (_NORMAL_PROPOSAL_ACCEPTANCE)
        )
        self._rows: Float32Array = np.empty((0, self._dim), np.float32)
        self._accepted: BoolArray = np.empty((0, self._dim), np.bool_)
        self._cursor = 0
        self._columns = np.arange(self._dim)

    def draw(self) -> Float32Array:
        """The next starting point, float32 ``[dim]``; the caller owns the array."""
        if self._always_zero:
            return np.zeros(self._dim, np.float32)
        if self._clamp is not None:
            return self._draw_accepted()
        if self._cursor == len(self._rows):
            self._rows = self._propose_normal()
            self._cursor = 0
        row: Float32Array = self._rows[self._cursor]
        self._cursor += 1
        return row

    def discard(self) -> None:
        """Draw and throw away, as the original does once in every conditioning pass (voice, text)."""
        self.draw()

    def _draw_accepted(self) -> Float32Array:
        """First accepted value of every column; all rows up to the last one used are consumed."""
        while True:
            pending = self._accepted[self._cursor :]
            if len(pending) and pending.any(axis=0).all():
                first = pending.argmax(axis=0)
                values: Float32Array = self._rows[self._cursor + first, self._columns]
                self._cursor += int(first.max()) + 1
                return values
            self._extend_proposals()

    def _extend_proposals(self) -> None:
        rows, accepted = self._propose_uniform() if self._uniform_proposals else self._propose_clamped()
        # Copies of the tails, so that the consumed rows are freed.
        self._rows = np.concatenate([self._rows[self._cursor :], rows])
        self._accepted = np.concatenate([self._accepted[self._cursor :], accepted])
        self._cursor = 0

    def _propose_clamped(self) -> tuple[Float32Array, BoolArray]:
        rows = self._propose_normal()
        # The bound is rounded to float32 before the comparison, like the values.
        return rows, np.abs(rows) <= np.float32(self._clamp)

    def _propose_uniform(self) -> tuple[Float32Array, BoolArray]:
        uniform = self._uniform24(2 * _ROWS_PER_BLOCK * self._dim).reshape(_ROWS_PER_BLOCK, 2, self._dim)
        low = np.float32(-self._clamp) if self._clamp is not None else np.float32(0)
        # torch fuses this multiplication and addition; in float64 the product is exact, so that
        # one rounding is left here too.
        rows = (uniform[:, 0].astype(np.float64) * (-low - low) + low).astype(np.float32)
        log_density = np.square(rows / self._std) * np.float32(-0.5)
        with np.errstate(divide="ignore"):  # log(0) = -inf accepts, as it should
            log_uniform = np.log(uniform[:, 1].astype(np.float64)).astype(np.float32)
        return rows, log_uniform <= log_density

    def _propose_normal(self) -> Float32Array:
        return self._normal_scalar_rows() if self._dim < 16 else self._normal_block_rows()

    def _normal_block_rows(self) -> Float32Array:
        """``normal_`` of ``_ROWS_PER_BLOCK`` tensors of at least 16 values."""
        dim = self._dim
        whole, tail = dim // 16 * 16, dim % 16
        words_per_row = dim + (16 if tail else 0)
        uniform = self._uniform24(_ROWS_PER_BLOCK * words_per_row).reshape(_ROWS_PER_BLOCK, words_per_row)
        rows = np.empty((_ROWS_PER_BLOCK, dim), np.float32)
        rows[:, :whole] = self._box_muller16(uniform[:, :whole])
        if tail:
            rows[:, dim - 16 :] = self._box_muller16(uniform[:, dim:])
        return rows

    def _box_muller16(self, uniform: Float32Array) -> Float32Array:
        """Box-Muller over blocks of 16 columns: value j takes the cosine, value j + 8 the sine."""
        pairs = uniform.reshape(len(uniform), -1, 2, 8)
        # Rounded to float32 where torch rounds, which matters where a cosine is close to zero.
        log = np.log((np.float32(1) - pairs[:, :, 0]).astype(np.float64)).astype(np.float32)
        radius = np.sqrt(np.float32(-2) * log)
        theta = (np.float32(2 * math.pi) * pairs[:, :, 1]).astype(np.float64)
        out = np.empty(pairs.shape, np.float32)
        out[:, :, 0] = radius * np.cos(theta).astype(np.float32) * self._std
        out[:, :, 1] = radius * np.sin(theta).astype(np.float32) * self._std
        return out.reshape(uniform.shape)

    def _normal_scalar_rows(self) -> Float32Array:
        """``normal_`` of tensors of fewer than 16 values: one endless sequence of float64 pairs.

        An even number of rows ends on a pair, so nothing has to be carried from block to block.
        """
        count = _ROWS_PER_BLOCK * self._dim
        words = self._words.random_raw(2 * count).reshape(count, 2)
        mantissa = ((words[:, 0] << np.uint64(32)) | words[:, 1]) & np.uint64(2**53 - 1)
        uniform = (mantissa * 2.0**-53).reshape(count // 2, 2)
        radius = np.sqrt(-2.0 * np.log1p(-uniform[:, 1]))
        theta = 2.0 * math.pi * uniform[:, 0]
        out = np.empty((count // 2, 2), np.float32)
        out[:, 0] = radius * np.cos(theta) * self._std64
        out[:, 1] = radius * np.sin(theta) * self._std64
        return out.reshape(_ROWS_PER_BLOCK, self._dim)

    def _uniform24(self, count: int) -> Float32Array:
        """``count`` float32 uniforms in [0, 1), the low 24 bits of a word each."""
        words: npt.NDArray[np.uint64] = self._words.random_raw(count)
        uniform: Float32Array = (words & np.uint64(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)
        return uniform


def _mersenne_twister(seed: int | None) -> np.random.MT19937:
    """MT19937 with Knuth's initialisation of its state from the low 32 bits of the seed."""
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
    try:
        value = operator.index(seed)
    except TypeError as err:
        raise TypeError(f"The seed has to be an integer or None, and this one is {seed!r}.") from err
    if not _LOWEST_SEED <= value <= _HIGHEST_SEED:
        raise ValueError(f"The seed has to be between -2**63 and 2**64 - 1, and this one is {value}.")
    # RandomState keeps the reference initialisation, whose output NumPy has promised never to change.
    generator = np.random.MT19937()
    state: Any = np.random.RandomState(value & 0xFFFFFFFF).get_state(legacy=False)
    generator.state = state
    return generator


def _checked_dim(dim: int) -> int:
    value = operator.index(dim)
    if value < 1:
        raise ValueError(f"The width of the noise has to be at least 1, and this one is {value}.")
    return value


def _checked_std(temperature: float) -> float:
    value = float(temperature)
    if not (math.isfinite(value) and value >= 0.0):
        raise ValueError(f"The temperature has to be a finite number of at least 0, and this one is {value}.")
    std = math.sqrt(value)
    if std > float(np.finfo(np.float32).max):
        raise ValueError(f"The temperature {value} is too large for float32 noise; usual values are 0 to 1.")
    return std


def _check_clamp(clamp: float | None) -> None:
    if clamp is not None and not float(clamp) > 0.0:
        raise ValueError(f"The noise clamp has to be a number above 0 or None, and this one is {clamp}.")


def _mass_inside(clamp: float, std: float) -> float:
    """Share of N(0, std**2) within the clamp, by the same two evaluations of erf as torch."""

    def normal_cdf(x: float) -> float:
        return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0

    return normal_cdf(clamp / std) - normal_cdf(-clamp / std)
