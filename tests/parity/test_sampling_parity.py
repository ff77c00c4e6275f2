"""The noise stream against PyTorch itself, draw by draw."""

import itertools
import zlib

import numpy as np
import pytest

from pockettts_fast.sampling import NoiseSource

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SEEDS = [0, 1, 42, 12345, -1, -7, -(2**63), 2**32 + 5, 2**63, 2**64 - 1]
# A float32 value is a product of radius, trigonometric function and std. torch's vectorised log, sin and
# cos are good to about 2 ulp each (avx_mathfun), every product and root adds half an ulp, ours are correctly
# rounded: 2 + 2 + 4 * 0.5 = 6 units of relative error, plus the absolute error of a reduced sine or cosine
# near its zero, 2 ulp of 1, times the largest radius, sqrt(-2 log 2**-24) = 5.8.
EPS = float(np.finfo(np.float32).eps)


def upstream_draws(seed, dim, temperature, clamp, count):
    torch.manual_seed(seed)
    rows = []
    for _ in range(count):
        noise = torch.empty((1, dim), dtype=torch.float32)
        if clamp is None:
            torch.nn.init.normal_(noise, mean=0.0, std=temperature**0.5)
        else:
            torch.nn.init.trunc_normal_(noise, mean=0.0, std=temperature**0.5, a=-clamp, b=clamp)
        rows.append(noise[0].numpy().copy())
    return np.stack(rows)


def check(seed, dim, temperature, clamp, count):
    expected = upstream_draws(seed, dim, temperature, clamp, count)
    source = NoiseSource(seed, dim, temperature, clamp)
    got = np.stack([source.draw() for _ in range(count)])
    assert got.dtype == np.float32
    bound = 6 * EPS * np.abs(expected) + 2 * EPS * 5.8 * temperature**0.5
    assert np.all(np.abs(got - expected) <= bound)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clamp", [None, 0.5, 1.0])
def test_every_accepted_seed_gives_torchs_draws(seed, clamp):
    check(seed, 32, 0.7, clamp, 130)


@pytest.mark.parametrize("clamp", [None, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0])
def test_every_width_gives_torchs_draws(temperature, clamp):
    for dim in range(1, 101):
        check(zlib.crc32(f"{dim} {temperature} {clamp}".encode()), dim, temperature, clamp, 9)


def test_zero_temperature_gives_zeros_and_advances_as_torch_does():
    for dim in (1, 5, 15, 16, 17, 32, 33, 64):
        check(3, dim, 0.0, None, 5)


def test_a_long_stream_stays_in_step():
    for dim, clamp in itertools.product((5, 32, 40), (None, 0.2, 0.6)):
        check(99, dim, 0.3, clamp, 700)


def test_a_clamp_of_any_size_is_accepted_as_by_torch():
    for clamp in (1e-30, 1e-3, 1e6, float("inf")):
        check(11, 32, 0.3, clamp, 20)
