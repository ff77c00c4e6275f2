"""The flow head (AdaLN MLP) and the ways to sample with it: upstream's modules.mlp and models.flow_lm."""

import numpy as np

from reference.formulas import Weights, affine_norm, layer_norm, linear, silu

NORM_EPS = 1e-6
TIME_CONDITIONS = {"lsd": 2, "flow_matching": 1, "drifting": 0, "pointwise": 0}


def embed_time(weights: Weights, name: str, t: float) -> np.ndarray:
    """[1, dim]: cosines first; the norm's variance is unbiased and its numerator not centred (trap 1)."""
    freqs = weights[f"{name}.freqs"]
    angles = (np.float32(t) * freqs.astype(np.float32)).astype(freqs.dtype)  # float32 by definition
    x = np.concatenate([np.cos(angles), np.sin(angles)])[None]
    x = linear(weights, f"{name}.mlp.2", silu(linear(weights, f"{name}.mlp.0", x)))
    variance = x.var(axis=-1, ddof=1, keepdims=True)
    return x * weights[f"{name}.mlp.3.alpha"] / np.sqrt(variance + x.dtype.type(1e-5))


def head(weights: Weights, prefix: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x [rows, latent] and the embedded condition y [rows, dim] -> [rows, latent]."""
    h = linear(weights, f"{prefix}input_proj", x)
    index = 0
    while f"{prefix}res_blocks.{index}.in_ln.weight" in weights:
        name = f"{prefix}res_blocks.{index}"
        shift, scale, gate = np.split(linear(weights, f"{name}.adaLN_modulation.1", silu(y)), 3, axis=1)
        inner = affine_norm(weights, f"{name}.in_ln", h, NORM_EPS) * (1 + scale) + shift
        h = h + gate * linear(weights, f"{name}.mlp.2", silu(linear(weights, f"{name}.mlp.0", inner)))
        index += 1
    shift, scale = np.split(linear(weights, f"{prefix}final_layer.adaLN_modulation.1", silu(y)), 2, axis=1)
    return linear(weights, f"{prefix}final_layer.linear", layer_norm(h, NORM_EPS) * (1 + scale) + shift)


def sample(
    weights: Weights, prefix: str, kind: str, condition: np.ndarray, noise: np.ndarray, steps: int
) -> np.ndarray:
    """condition [rows, width], noise [rows, latent] -> latents [rows, latent]."""
    y = linear(weights, f"{prefix}cond_embed", condition)
    if kind == "drifting":
        return head(weights, prefix, y, noise)
    if kind == "pointwise":
        return noise + head(weights, prefix, y, noise)
    x = noise
    for i in range(steps):
        times = [(i + c) / steps for c in range(TIME_CONDITIONS[kind])]
        embedded = [embed_time(weights, f"{prefix}time_embed.{c}", t) for c, t in enumerate(times)]
        x = x + head(weights, prefix, y + sum(embedded) / len(embedded), x) / x.dtype.type(steps)
    return x
