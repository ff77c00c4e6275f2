"""The codec over whole signals, from upstream's models.mimi and modules.resample."""

import numpy as np

from pockettts_fast.config import Config, MimiTransformerConfig
from reference import seanet
from reference.formulas import Weights, product
from reference.transformer import Shape, transformer


def transformer_shape(config: MimiTransformerConfig) -> Shape:
    return Shape(
        layers=config.num_layers,
        heads=config.num_heads,
        kv_heads=config.num_heads,
        attention_dim=config.d_model,
        window=config.context,
        max_period=config.max_period,
    )


def upsample(x: np.ndarray, weight: np.ndarray, channels: int) -> np.ndarray:
    """Grouped transposed convolution without bias: x [rows, in], weight [in, 1, 2 * stride].

    Input i goes to output i // (in / channels) alone.
    """
    stride = weight.shape[2] // 2
    group = x.shape[1] // channels
    parts = [
        seanet.conv_transpose(x[:, i : i + group], weight[i : i + group], None, stride)
        for i in range(0, x.shape[1], group)
    ]
    return np.concatenate(parts, axis=1)


def decode(weights: Weights, config: Config, latents: np.ndarray) -> np.ndarray:
    """latents [frames, latent], normalised -> pcm [frames * frame_size]."""
    mimi = config.mimi
    x = latents.astype(weights["flow_lm.emb_std"].dtype)
    x = x * weights["flow_lm.emb_std"] + weights["flow_lm.emb_mean"]
    x = product(x, weights["mimi.quantizer.output_proj.weight"][:, :, 0])
    if mimi.resample_stride > 1:
        x = upsample(x, weights["mimi.upsample.convtr.convtr.weight"], mimi.decoding_seanet.dimension)
    x, _ = transformer(weights, "mimi.decoder_transformer.", x, transformer_shape(mimi.decoding_transformer))
    return seanet.decode(weights, "mimi.decoder.", x, mimi.decoding_seanet)[:, 0]


def encode(weights: Weights, config: Config, pcm: np.ndarray) -> np.ndarray:
    """pcm [samples] -> [frames, conditioning_dim]; the last frame is completed with zeros."""
    mimi = config.mimi
    pcm = pcm.astype(weights["flow_lm.emb_std"].dtype)
    pcm = np.pad(pcm, (0, -len(pcm) % mimi.frame_size))
    x = seanet.encode(weights, "mimi.encoder.", pcm[:, None], mimi.seanet)
    x, _ = transformer(weights, "mimi.encoder_transformer.", x, transformer_shape(mimi.transformer))
    if mimi.resample_stride == 1:
        return x
    weight = weights["mimi.downsample.conv.conv.weight"]
    # Unlike all others this convolution repeats its first row in front (trap 11).
    return seanet.conv(x, weight, stride=mimi.resample_stride, replicate=True)
