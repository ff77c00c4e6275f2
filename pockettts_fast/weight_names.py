"""Which tensors a configuration has, and how the training code's files call them.

The names and shapes are those of the original's ``TTSModel.state_dict()``: every checkpoint that is
published as one file holds exactly them.
"""

import math
from collections.abc import Callable, Iterator

from pockettts_fast.config import Config, FlowLMConfig, MimiConfig, MimiTransformerConfig, SEANetConfig

Shapes = dict[str, tuple[int, ...]]

_TIME_CONDITIONS = {"lsd": 2, "flow_matching": 1, "drifting": 0, "pointwise": 0}
# Cosines and sines of the time embedding, upstream's TimestepEmbedder default.
_TIME_FREQUENCIES = 128


def expected_tensors(config: Config) -> Shapes:
    """Name and shape of every tensor of a model with this configuration.

    The names begin with ``flow_lm.`` or ``mimi.``. Upstream: ``pocket_tts.models.flow_lm``,
    ``pocket_tts.models.mimi`` and their modules.
    """
    shapes: Shapes = {}
    for name, shape in _flow_lm(config.flow_lm, config.mimi):
        shapes[f"flow_lm.{name}"] = shape
    for name, shape in _mimi(config.mimi):
        shapes[f"mimi.{name}"] = shape
    return shapes


def attention_shape(config: FlowLMConfig) -> tuple[int, int]:
    """Key/value heads and width of a head of the language model's attention."""
    transformer = config.transformer
    attn_dim = transformer.attn_dim or transformer.d_model
    return transformer.num_kv_heads or transformer.num_heads, attn_dim // transformer.num_heads


_Named = Iterator[tuple[str, tuple[int, ...]]]


def _flow_lm(config: FlowLMConfig, mimi: MimiConfig) -> _Named:
    transformer = config.transformer
    d_model = transformer.d_model
    latent = mimi.quantizer.dimension
    hidden = config.z_dim or d_model
    for name in ("emb_std", "emb_mean", "bos_emb"):
        yield name, (latent,)
    if config.insert_bos_before_voice:
        yield "bos_before_voice", (1, 1, d_model)
    yield "speaker_proj_weight", (d_model, mimi.inner_dim or mimi.seanet.dimension)

    table = config.lookup_table
    yield "conditioner.embed.weight", (table.n_bins + 1, table.rank or table.dim)
    if table.rank is not None:
        yield "conditioner.proj.weight", (table.dim, table.rank)

    yield from _flow_head(config.flow.type, config.flow.dim, config.flow.depth, latent, hidden)
    yield "input_linear.weight", (d_model, latent)
    kv_heads, head_dim = attention_shape(config)
    for layer in range(transformer.num_layers):
        yield from _transformer_layer(
            f"transformer.layers.{layer}",
            d_model=d_model,
            attn_dim=transformer.attn_dim or d_model,
            kv_dim=kv_heads * head_dim,
            feed_forward=transformer.dim_feedforward or int(d_model * transformer.hidden_scale),
            layer_scale=False,
        )
    yield "out_norm.weight", (d_model,)
    yield "out_norm.bias", (d_model,)
    if config.z_dim is not None:
        yield "z_proj.weight", (config.z_dim, d_model)
    yield from _linear("out_eos", hidden, 1)


def _flow_head(kind: str, dim: int, depth: int, latent: int, condition: int) -> _Named:
    for index in range(_TIME_CONDITIONS[kind]):
        prefix = f"flow_net.time_embed.{index}"
        yield f"{prefix}.freqs", (_TIME_FREQUENCIES,)
        yield from _linear(f"{prefix}.mlp.0", 2 * _TIME_FREQUENCIES, dim)
        yield from _linear(f"{prefix}.mlp.2", dim, dim)
        yield f"{prefix}.mlp.3.alpha", (dim,)
    yield from _linear("flow_net.cond_embed", condition, dim)
    yield from _linear("flow_net.input_proj", latent, dim)
    for index in range(depth):
        prefix = f"flow_net.res_blocks.{index}"
        yield f"{prefix}.in_ln.weight", (dim,)
        yield f"{prefix}.in_ln.bias", (dim,)
        yield from _linear(f"{prefix}.mlp.0", dim, dim)
        yield from _linear(f"{prefix}.mlp.2", dim, dim)
        yield from _linear(f"{prefix}.adaLN_modulation.1", dim, 3 * dim)
    yield from _linear("flow_net.final_layer.linear", dim, latent)
    yield from _linear("flow_net.final_layer.adaLN_modulation.1", dim, 2 * dim)


def _mimi(config: MimiConfig) -> _Named:
    encoder = config.seanet
    decoder = config.decoder_seanet or encoder
    yield from _seanet_encoder(encoder)
    yield from _seanet_decoder(decoder)
    yield from _projected_transformer("encoder_transformer", config.transformer)
    yield from _projected_transformer("decoder_transformer", config.decoder_transformer or config.transformer)
    quantizer = config.quantizer
    yield "quantizer.output_proj.weight", (quantizer.output_dimension, quantizer.dimension, 1)
    encoder_frame_rate = config.sample_rate / math.prod(encoder.ratios)
    if encoder_frame_rate != config.frame_rate:
        kernel = 2 * int(encoder_frame_rate / config.frame_rate)
        yield (
            "downsample.conv.conv.weight",
            (config.inner_dim or encoder.dimension, encoder.dimension, kernel),
        )
        # Depthwise over the decoder's channels, so one output channel a group.
        yield "upsample.convtr.convtr.weight", (config.outer_dim or decoder.dimension, 1, kernel)


def _seanet_encoder(config: SEANetConfig) -> _Named:
    channels = config.n_filters
    index = 0
    yield from _conv(f"encoder.model.{index}.conv", config.channels, channels, config.kernel_size)
    for ratio in reversed(config.ratios):
        for _ in range(config.n_residual_layers):
            index += 1
            yield from _residual_block(f"encoder.model.{index}", config, channels)
        index += 2  # an ELU without parameters comes before
        yield from _conv(f"encoder.model.{index}.conv", channels, 2 * channels, 2 * ratio)
        channels *= 2
    index += 2
    yield from _conv(f"encoder.model.{index}.conv", channels, config.dimension, config.last_kernel_size)


def _seanet_decoder(config: SEANetConfig) -> _Named:
    channels = config.n_filters * 2 ** len(config.ratios)
    index = 0
    yield from _conv(f"decoder.model.{index}.conv", config.dimension, channels, config.kernel_size)
    for ratio in config.ratios:
        index += 2
        prefix = f"decoder.model.{index}.convtr"
        yield f"{prefix}.weight", (channels, channels // 2, 2 * ratio)
        yield f"{prefix}.bias", (channels // 2,)
        channels //= 2
        for _ in range(config.n_residual_layers):
            index += 1
            yield from _residual_block(f"decoder.model.{index}", config, channels)
    index += 2
    yield from _conv(f"decoder.model.{index}.conv", config.n_filters, config.channels, config.last_kernel_size)


def _residual_block(prefix: str, config: SEANetConfig, channels: int) -> _Named:
    hidden = channels // config.compress
    yield from _conv(f"{prefix}.block.1.conv", channels, hidden, config.residual_kernel_size)
    yield from _conv(f"{prefix}.block.3.conv", hidden, channels, 1)


def _projected_transformer(prefix: str, config: MimiTransformerConfig) -> _Named:
    if config.input_dimension != config.d_model:
        yield f"{prefix}.input_proj.weight", (config.d_model, config.input_dimension)
    for layer in range(config.num_layers):
        yield from _transformer_layer(
            f"{prefix}.transformer.layers.{layer}",
            d_model=config.d_model,
            attn_dim=config.d_model,
            kv_dim=config.d_model,
            feed_forward=config.dim_feedforward,
            layer_scale=True,
        )
    for index, width in enumerate(config.output_dimensions):
        if width != config.d_model:
            yield f"{prefix}.output_projs.{index}.weight", (width, config.d_model)


def _transformer_layer(
    prefix: str, *, d_model: int, attn_dim: int, kv_dim: int, feed_forward: int, layer_scale: bool
) -> _Named:
    yield f"{prefix}.self_attn.in_proj.weight", (attn_dim + 2 * kv_dim, d_model)
    yield f"{prefix}.self_attn.out_proj.weight", (d_model, attn_dim)
    for norm in ("norm1", "norm2"):
        yield f"{prefix}.{norm}.weight", (d_model,)
        yield f"{prefix}.{norm}.bias", (d_model,)
    yield f"{prefix}.linear1.weight", (feed_forward, d_model)
    yield f"{prefix}.linear2.weight", (d_model, feed_forward)
    if layer_scale:
        yield f"{prefix}.layer_scale_1.scale", (d_model,)
        yield f"{prefix}.layer_scale_2.scale", (d_model,)


def _linear(prefix: str, inputs: int, outputs: int) -> _Named:
    yield f"{prefix}.weight", (outputs, inputs)
    yield f"{prefix}.bias", (outputs,)


def _conv(prefix: str, inputs: int, outputs: int, kernel: int) -> _Named:
    yield f"{prefix}.weight", (outputs, inputs, kernel)
    yield f"{prefix}.bias", (outputs,)


# Files of the training code (upstream: pocket_tts.utils.weights_loading).

_RAW_CONDITIONERS = "condition_provider.conditioners."
_RAW_FLOW_LM_NAMES = {
    f"{_RAW_CONDITIONERS}transcript_in_segment.embed.weight": "conditioner.embed.weight",
    f"{_RAW_CONDITIONERS}speaker_wavs.output_proj.weight": "speaker_proj_weight",
    "fuser.padding_value": "bos_before_voice",
}
_RAW_FLOW_LM_UNUSED = {
    f"{_RAW_CONDITIONERS}transcript_in_segment.learnt_padding",
    f"{_RAW_CONDITIONERS}speaker_wavs.learnt_padding",
    "num_ema_updates",
}
_RAW_MIMI_UNUSED = {
    "model.quantizer.logvar_proj.weight",
    "quantizer.logvar_proj.weight",
    "quantizer.logvar_param",
    "wavlm_input_resample.kernel",
    "wavlm_proj.weight",
}

Renaming = Callable[[str], str | None]


def raw_flow_lm_name(name: str) -> str | None:
    """This package's name, without ``flow_lm.``, of a tensor of a raw FlowLM file; ``None`` if unused."""
    if name in _RAW_FLOW_LM_UNUSED or name.startswith("flow.w_s_t."):
        return None
    renamed = _RAW_FLOW_LM_NAMES.get(name, name)
    return renamed.replace(".self_attn.in_proj_weight", ".self_attn.in_proj.weight")


def raw_mimi_name(name: str) -> str | None:
    """This package's name, without ``mimi.``, of a tensor of a raw Mimi file; ``None`` if unused.

    For the two halves of a weight norm, ``X.weight_g`` and ``X.weight_v``, ask for ``X.weight``.
    """
    if (
        name in _RAW_MIMI_UNUSED
        or name.startswith("model.quantizer.vq.")
        or "_codebook" in name
        or "wavlm_emb_downsample" in name
    ):
        return None
    renamed = name.removeprefix("model.")
    for wrapped, plain in ((".conv.conv.", ".conv."), (".convtr.convtr.", ".convtr.")):
        renamed = renamed.replace(wrapped, plain)
    return renamed.replace("in_proj_weight", "in_proj.weight")
