"""What the tests of both lower precisions share: packing, sizes at the edges of tiles and panels."""

import numpy as np

from pockettts_fast import _core
from pockettts_fast._core import kernels
from reference.quantized import Linear

ROWS = range(1, 27)  # up to two tiles of any instruction set
EDGE_COLS = (1, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65, 96)
DEPTHS = (*range(1, 36), 63, 64, 65, 127, 128, 130)
SHAPES = (
    (3072, 1024),
    (1024, 4096),
    (512, 512),
    (320, 112),
    (112, 96),
    (1536, 512),
)  # released (cols, depth)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def packed(isa: str, layer: Linear, threads: int = 1) -> kernels.PackedLinear:
    return kernels.PackedLinear(isa, threads, layer.weight, layer.bias, layer.scale, layer.precision)


def fused_isas() -> list[str]:
    """The sets that run here and fuse multiply-add; scalar code rounds its activations elsewhere."""
    return [name for name in _core.available_isas() if name != "scalar"]
