"""The causal transformer over one whole sequence, from upstream's modules.transformer and modules.attention.

Nothing streams here: row i of the output is what a stream gives at position i, however it was fed.
"""

from dataclasses import dataclass

import numpy as np

from reference.formulas import Weights, affine_norm, gelu_tanh, linear, product

NORM_EPS = 1e-5


@dataclass(frozen=True)
class Shape:
    """What the weights do not tell. `window` 0: every earlier row is seen."""

    layers: int
    heads: int
    kv_heads: int
    attention_dim: int
    window: int
    max_period: float

    @property
    def head_dim(self) -> int:
        return self.attention_dim // self.heads


def turn(x: np.ndarray, max_period: float) -> np.ndarray:
    """RoPE: x [rows, heads, D], pair (2i, 2i + 1) of row t turned by t * max_period^(-2i / D).

    Frequency and angle are float32 in either precision: they are so by definition (upstream computes them
    so), and at position 1000 their rounding is far above that of everything else.
    """
    rows, _, width = x.shape
    frequencies = np.exp(np.arange(width // 2, dtype=np.float32) * np.float32(-np.log(max_period) * 2 / width))
    angles = frequencies.astype(np.float32) * np.arange(rows, dtype=np.float32)[:, None]
    c, s = (f(angles.astype(np.float64)).astype(x.dtype)[:, None] for f in (np.cos, np.sin))
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack([even * c - odd * s, even * s + odd * c], axis=-1).reshape(x.shape)


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, window: int) -> np.ndarray:
    """q [rows, heads, D], k and v [rows, kv_heads, D] -> [rows, heads * D]."""
    rows, heads, head_dim = q.shape
    k, v = (np.repeat(x, heads // x.shape[1], axis=1) for x in (k, v))
    distance = np.arange(rows)[:, None] - np.arange(rows)
    seen = (distance >= 0) & (distance < (window or rows))
    scores = np.einsum("qhd,khd->hqk", q, k) * q.dtype.type(1 / np.sqrt(head_dim))
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weights, v).reshape(rows, heads * head_dim)


def transformer(weights: Weights, prefix: str, x: np.ndarray, shape: Shape) -> tuple[np.ndarray, list[np.ndarray]]:
    """x [rows, input] -> [rows, output], and per layer the cache [2, 1, rows, kv_heads, D]."""
    if f"{prefix}input_proj.weight" in weights:
        x = product(x, weights[f"{prefix}input_proj.weight"])
    caches = []
    for index in range(shape.layers):
        name = f"{prefix}transformer.layers.{index}"
        update, cache = self_attention(weights, name, x, shape)
        caches.append(cache)
        x = x + scaled(weights, f"{name}.layer_scale_1.scale", update)
        inner = gelu_tanh(linear(weights, f"{name}.linear1", affine_norm(weights, f"{name}.norm2", x, NORM_EPS)))
        x = x + scaled(weights, f"{name}.layer_scale_2.scale", linear(weights, f"{name}.linear2", inner))
    if f"{prefix}output_projs.0.weight" in weights:
        x = product(x, weights[f"{prefix}output_projs.0.weight"])
    return x, caches


def self_attention(weights: Weights, name: str, x: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    rows, head_dim, kv_dim = len(x), shape.head_dim, shape.kv_heads * shape.head_dim
    qkv = linear(weights, f"{name}.self_attn.in_proj", affine_norm(weights, f"{name}.norm1", x, NORM_EPS))
    q, k, v = np.split(qkv, [shape.attention_dim, shape.attention_dim + kv_dim], axis=1)
    q = turn(q.reshape(rows, shape.heads, head_dim), shape.max_period)
    k = turn(k.reshape(rows, shape.kv_heads, head_dim), shape.max_period)
    v = v.reshape(rows, shape.kv_heads, head_dim)
    out = attend(q, k, v, shape.window)
    return linear(weights, f"{name}.self_attn.out_proj", out), np.stack([k, v])[:, None]


def scaled(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    """LayerScale, where the layer has one."""
    return x * weights[name] if name in weights else x
