"""Linear layers: one row with weights from memory (a language-model step), many rows (prefill, codec)."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pockettts_fast._core import kernels
from reference.gemm import Linear
from reference.rounding import assert_within

Measure = Callable[..., None]
Cold = Callable[[Callable[[], kernels.PackedLinear], int], Iterator[kernels.PackedLinear]]

# (cols, depth). The 302 MB of `english` come from memory every frame; `english_2m` (3 MB) stays in the cache.
ENGLISH = {
    "in_proj": (3072, 1024),
    "out_proj": (1024, 1024),
    "linear1": (4096, 1024),
    "linear2": (1024, 4096),
}
ENGLISH_FLOW = {"adaln": (1536, 512), "mlp": (512, 512)}
ENGLISH_2M = {"in_proj": (320, 112), "out_proj": (112, 192), "linear1": (96, 112), "linear2": (112, 96)}
CODEC = {"in_proj": (1536, 512), "linear1": (2048, 512), "linear2": (512, 2048)}
CODEC_2M = {"in_proj": (384, 128), "linear1": (384, 128), "linear2": (128, 384)}


def layer_of(rng: np.random.Generator, shape: tuple[int, int]) -> Linear:
    return Linear(rng.standard_normal(shape, dtype=np.float32))


def ids(shapes: dict[str, tuple[int, int]], name: str) -> list[object]:
    return [pytest.param(shape, id=f"{name}-{part}") for part, shape in shapes.items()]


@pytest.mark.parametrize("shape", ids(ENGLISH, "english") + ids(ENGLISH_FLOW, "english-flow"))
def test_one_row_with_cold_weights(
    measure: Measure, cold: Cold, isa: str, threads: int, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    layer = layer_of(rng, shape)
    x = rng.standard_normal((1, shape[1]), dtype=np.float32)
    copies = cold(lambda: kernels.PackedLinear(isa, threads, layer.weight), layer.weight.nbytes)
    assert_within(next(copies).apply(x), *layer(x))
    measure(lambda: next(copies).apply(x), flop=2.0 * layer.weight.size, bytes=layer.weight.nbytes)


@pytest.mark.parametrize("shape", ids(ENGLISH_2M, "english_2m"))
def test_one_row_with_cached_weights(
    measure: Measure, isa: str, threads: int, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    layer = layer_of(rng, shape)
    x = rng.standard_normal((1, shape[1]), dtype=np.float32)
    linear = kernels.PackedLinear(isa, threads, layer.weight)
    assert_within(linear.apply(x), *layer(x))
    measure(lambda: linear.apply(x), flop=2.0 * layer.weight.size, bytes=layer.weight.nbytes)


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        *(pytest.param(s, 25, id=f"english-prefill25-{n}") for n, s in ENGLISH.items()),
        *(pytest.param(s, 125, id=f"english-prefill125-{n}") for n, s in ENGLISH.items()),
        *(pytest.param(s, 16, id=f"english-codec16-{n}") for n, s in CODEC.items()),
        *(pytest.param(s, 16, id=f"english_2m-codec16-{n}") for n, s in CODEC_2M.items()),
    ],
)
def test_many_rows(
    measure: Measure, isa: str, threads: int, shape: tuple[int, int], rows: int, rng: np.random.Generator
) -> None:
    layer = layer_of(rng, shape)
    x = rng.standard_normal((rows, shape[1]), dtype=np.float32)
    linear = kernels.PackedLinear(isa, threads, layer.weight)
    assert_within(linear.apply(x), *layer(x))
    measure(lambda: linear.apply(x), flop=2.0 * rows * layer.weight.size)


@pytest.mark.parametrize("activation", ["none", "elu", "silu", "gelu_tanh"])
def test_the_epilogue(measure: Measure, isa: str, activation: str, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((2048, 512), dtype=np.float32)
    layer = Linear(weight, rng.standard_normal(2048, dtype=np.float32), activation)
    x = rng.standard_normal((16, 512), dtype=np.float32)
    linear = kernels.PackedLinear(isa, 1, weight, layer.bias)
    assert_within(linear.apply(x, activation), *layer(x))
    measure(lambda: linear.apply(x, activation), flop=2.0 * 16 * weight.size)
