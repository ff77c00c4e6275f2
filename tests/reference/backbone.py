"""The language model over a whole utterance, from upstream's models.flow_lm and models.tts_model."""

from dataclasses import dataclass

import numpy as np

from pockettts_fast.config import Config
from reference.flow_head import sample
from reference.formulas import Weights, affine_norm, product
from reference.transformer import NORM_EPS, Shape, transformer


@dataclass(frozen=True)
class Frames:
    """What the frames of an utterance gave: latents [frames, latent], end logits [frames], and the caches."""

    latents: np.ndarray
    end: np.ndarray
    caches: list[np.ndarray]


def transformer_shape(config: Config) -> Shape:
    transformer = config.flow_lm.transformer
    return Shape(
        layers=transformer.num_layers,
        heads=transformer.num_heads,
        kv_heads=transformer.kv_heads,
        attention_dim=transformer.attention_dim,
        window=0,
        max_period=transformer.max_period,
    )


def rows_of_prompt(weights: Weights, config: Config, prompt: np.ndarray) -> np.ndarray:
    """prompt [frames, conditioning_dim] -> rows of the transformer, behind the start row if there is one."""
    rows = product(prompt.astype(weights["flow_lm.bos_emb"].dtype), weights["flow_lm.speaker_proj_weight"])
    if not config.flow_lm.insert_bos_before_voice:
        return rows
    return np.concatenate([weights["flow_lm.bos_before_voice"][0], rows])


def rows_of_text(weights: Weights, ids: list[int]) -> np.ndarray:
    rows = weights["flow_lm.conditioner.embed.weight"][ids]
    name = "flow_lm.conditioner.proj.weight"
    return product(rows, weights[name]) if name in weights else rows


def rows_of_latents(weights: Weights, latents: np.ndarray) -> np.ndarray:
    """NaN components mean the beginning of speech (trap 9); the others are fed back as they are (trap 10)."""
    start = weights["flow_lm.bos_emb"]
    fed = np.where(np.isnan(latents), start, latents.astype(start.dtype))
    return product(fed, weights["flow_lm.input_linear.weight"])


def speak(
    weights: Weights,
    config: Config,
    prompt: np.ndarray,
    ids: list[int],
    latents: np.ndarray,
    noise: np.ndarray,
    steps: int = 1,
) -> Frames:
    """One utterance with given inputs (teacher forcing).

    prompt [frames, conditioning_dim]; latents [frames, latent] are what each step is fed, noise likewise.
    """
    rows = np.concatenate(
        [
            rows_of_prompt(weights, config, prompt),
            rows_of_text(weights, ids),
            rows_of_latents(weights, latents),
        ]
    )
    hidden, caches = transformer(weights, "flow_lm.", rows, transformer_shape(config))
    hidden = affine_norm(weights, "flow_lm.out_norm", hidden[len(rows) - len(latents) :], NORM_EPS)
    if "flow_lm.z_proj.weight" in weights:
        hidden = product(hidden, weights["flow_lm.z_proj.weight"])
    end = product(hidden, weights["flow_lm.out_eos.weight"])[:, 0] + weights["flow_lm.out_eos.bias"]
    out = sample(weights, "flow_lm.flow_net.", config.flow_lm.flow.type, hidden, noise.astype(hidden.dtype), steps)
    return Frames(out, end, caches)
