"""Synthetic models for tests, benchmarks and the demo: random weights that behave, in complete checkpoints.

Nothing here sounds like speech. What the weights promise instead: activations stay near 1 through the
whole net, the audio is loud enough to compare and does not clip, the end of speech comes now and then,
and no parameter is trivial, so that code which forgets one gives other samples.
"""

import json
import math
import re
import statistics
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pockettts_fast.config import Config, config_from_dict
from pockettts_fast.errors import ConfigError
from pockettts_fast.testing_vocabulary import make_sentencepiece_model, make_tokenizer_json
from pockettts_fast.weight_names import expected_tensors

__all__ = [
    "make_sentencepiece_model",
    "make_tokenizer_json",
    "random_weights",
    "synthetic_prompt",
    "tiny_config",
    "write_checkpoint",
]

Float32Array = npt.NDArray[np.float32]

_CONFIGS = Path(__file__).parent / "configs"

# Norm of the weights of the end-of-speech head. Its input has unit variance, of which about the share
# below changes from frame to frame; the rest belongs to the voice and the text.
_EOS_NORM, _EOS_MOVING_SHARE = 1.5, 0.75
# Loudness of the prompts and of the codec's output that the scales aim at.
_INPUT_RMS, _OUTPUT_RMS = 0.1, 0.12
# 1 / sqrt(E[elu(x)**2]) for a standard normal x: what keeps the variance of a convolution after an ELU.
_AFTER_ELU = 1.25

_STORED_TYPES = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}

# In both tables the first pattern that is found in a name decides.
# Pattern, mean, standard deviation:
_VECTORS: list[tuple[str, float, float]] = [
    (r"emb_std$", 0.8, 0.15),
    (r"emb_mean$", 0.0, 0.2),
    (r"bos_emb$|bos_before_voice$", 0.0, 1.0),
    (r"(norm\d?|in_ln)\.weight$|alpha$", 1.0, 0.1),
    (r"(norm\d?|in_ln)\.bias$", 0.0, 0.1),
    (r"layer_scale_\d\.scale$", 0.3, 0.1),
    (r"decoder\.model\.\d+\.conv\.bias$|decoder\.model\.\d+\.convtr\.bias$", 0.0, 0.03),
    (r"\.bias$", 0.0, 0.1),
]
# Pattern, standard deviation of an output for inputs of unit variance:
_GAINS: list[tuple[str, float]] = [
    (r"adaLN_modulation", 0.5),
    (r"final_layer\.linear", 0.5),
    (r"self_attn\.in_proj", 1.2),
    (r"encoder\.model\.0\.conv", 1.0 / _INPUT_RMS),
    (r"decoder\.model\.0\.conv", 1.0),
    (r"block\.3\.conv", 0.5 * _AFTER_ELU),
    (r"coder\.model\.", _AFTER_ELU),
    (r"", 1.0),
]


def random_weights(config: Config, seed: int, *, eos_after: float | None = 25.0) -> dict[str, Float32Array]:
    """Every tensor of a configuration with random values, float32, by upstream's names.

    A tensor depends on the seed and on its own name and shape only.

    Args:
        config: any configuration of the schema.
        seed: any integer.
        eos_after: about how many frames a chunk lasts before the end of speech is predicted, in the mean
            over seeds, voices and texts (a single utterance may do it at once or never); ``None`` for never,
            so that every chunk runs to its maximum.
    """
    shapes = expected_tensors(config)
    weights = {name: _random_tensor(name, shape, config, seed) for name, shape in shapes.items()}
    _set_eos_bias(weights, config, eos_after)
    last = _last_codec_convolution(config)
    for name in (f"{last}.weight", f"{last}.bias"):
        weights[name] *= np.float32(_OUTPUT_RMS)
    return weights


def _random_tensor(name: str, shape: tuple[int, ...], config: Config, seed: int) -> Float32Array:
    rng = np.random.default_rng([seed & (2**64 - 1), zlib.crc32(name.encode())])
    # Uniform with a standard deviation of 1: much faster than normal, which counts at 100 M parameters.
    values: Float32Array = rng.random(shape, dtype=np.float32)
    values -= np.float32(0.5)
    values *= np.float32(math.sqrt(12.0))
    if name.endswith(".freqs"):
        # One per cent off the formula, so that code which computes instead of reading it shows.
        exponents = -math.log(10_000.0) * np.arange(shape[0]) / shape[0]
        frequencies: Float32Array = (np.exp(exponents) * (1.0 + 0.01 * values)).astype(np.float32)
        return frequencies
    for pattern, mean, deviation in _VECTORS:
        if re.search(pattern, name):
            values *= np.float32(deviation)
            values += np.float32(mean)
            return values
    if name.endswith("conditioner.embed.weight"):
        return values
    return _with_output_gain(name, values, _gain(name, config))


def _gain(name: str, config: Config) -> float:
    if re.search(r"flow_lm\.transformer\..*(out_proj|linear2)", name):
        # Two updates a layer add up to a residual of about the size of the input, at any depth.
        return 1.5 / math.sqrt(2 * config.flow_lm.transformer.num_layers)
    return next(gain for pattern, gain in _GAINS if re.search(pattern, name))


def _with_output_gain(name: str, values: Float32Array, gain: float) -> Float32Array:
    """Scale the weights of every output so that inputs of unit variance give a deviation of ``gain``.

    Exactly and for each output, because in narrow layers the norms of random rows differ a lot.
    """
    if ".convtr." in name:
        # [inputs, outputs, 2 * stride], or depthwise [channels, 1, 2 * stride]: two taps reach an output.
        axes: tuple[int, ...] = (2,) if "upsample" in name else (0, 2)
        taps = values.shape[2] / 2
    else:
        axes, taps = tuple(range(1, values.ndim)), 1.0
    norms = np.sqrt(np.square(values).sum(axis=axes, keepdims=True))
    values *= np.float32(gain * math.sqrt(taps)) / norms
    return values


def _last_codec_convolution(config: Config) -> str:
    seanet = config.mimi.decoder_seanet or config.mimi.seanet
    return f"mimi.decoder.model.{(2 + seanet.n_residual_layers) * len(seanet.ratios) + 2}.conv"


def _set_eos_bias(weights: dict[str, Float32Array], config: Config, eos_after: float | None) -> None:
    """Let the logit cross the default threshold with a probability of about 1 / eos_after on a frame."""
    weight = weights["flow_lm.out_eos.weight"]
    weight *= np.float32(_EOS_NORM / np.linalg.norm(weight))
    if eos_after is None:
        distance = 40.0
    elif eos_after > 1.0:
        distance = _EOS_NORM * _EOS_MOVING_SHARE * statistics.NormalDist().inv_cdf(1.0 - 1.0 / eos_after)
    else:
        raise ConfigError(f"eos_after has to be more than 1 frame or None, and it is {eos_after}.")
    weights["flow_lm.out_eos.bias"][:] = config.default_eos_threshold - distance


def tiny_config(
    *,
    flow_type: str = "lsd",
    flow_dim: int = 16,
    flow_depth: int = 2,
    d_model: int = 16,
    num_heads: int = 4,
    num_kv_heads: int | None = None,
    attn_dim: int | None = None,
    dim_feedforward: int | None = None,
    num_layers: int = 2,
    z_dim: int | None = None,
    rank: int | None = None,
    n_bins: int = 600,
    latent_dim: int = 32,
    insert_bos_before_voice: bool = True,
    inner_dim: int | None = None,
    separate_decoder: bool = False,
    context: int = 40,
    n_residual_layers: int = 1,
    dilation_base: int = 2,
    ratios: tuple[int, ...] = (4, 3, 2),
    n_filters: int = 4,
    **top_level: Any,
) -> dict[str, Any]:
    """A complete configuration with a few 10 000 parameters, as the mapping that a YAML file would hold.

    Every feature of the schema has a switch. The sample rate follows from the ratios: 12.5 frames a second
    of 16 codec steps each, 4800 Hz with the default ratios. Weights and tokenizer have no address yet,
    :func:`write_checkpoint` gives them one.

    Args:
        separate_decoder: give the codec's decoder its own, narrower SEANet and transformer.
        context: positions that the codec's transformers look back, 2.5 frames by default, so that the
            window slides early.
        top_level: further keys of the configuration, such as ``default_temperature``.
    """
    width = 16
    seanet: dict[str, Any] = {
        "dimension": width,
        "channels": 1,
        "n_filters": n_filters,
        "n_residual_layers": n_residual_layers,
        "ratios": list(ratios),
        "kernel_size": 7,
        "residual_kernel_size": 3,
        "last_kernel_size": 3,
        "dilation_base": dilation_base,
        "pad_mode": "constant",
        "compress": 2,
    }
    transformer: dict[str, Any] = {
        "d_model": width,
        "input_dimension": width,
        "output_dimensions": [width],
        "num_heads": 2,
        "num_layers": 2,
        "layer_scale": 0.01,
        "context": context,
        "max_period": 10000.0,
        "dim_feedforward": 2 * width,
    }
    outer = 8 if separate_decoder else width
    mimi: dict[str, Any] = {
        "dtype": "float32",
        "sample_rate": 200 * math.prod(ratios),
        "channels": 1,
        "frame_rate": 12.5,
        "seanet": seanet,
        "transformer": transformer,
        "quantizer": {"dimension": latent_dim, "output_dimension": outer},
        "inner_dim": latent_dim if inner_dim is None else inner_dim,
        "outer_dim": outer,
    }
    if separate_decoder:
        mimi["decoder_seanet"] = seanet | {
            "dimension": outer,
            "n_filters": n_filters + 2,
            "kernel_size": 3,
        }
        mimi["decoder_transformer"] = transformer | {
            "d_model": outer,
            "input_dimension": outer,
            "output_dimensions": [outer],
            "num_layers": 3,
            "context": max(2, context // 2),
            "dim_feedforward": 3 * outer,
        }
    flow_lm: dict[str, Any] = {
        "dtype": "float32",
        "flow": {"dim": flow_dim, "depth": flow_depth, "type": flow_type},
        "transformer": {
            "hidden_scale": 2,
            "max_period": 10000,
            "d_model": d_model,
            "num_heads": num_heads,
            "num_layers": num_layers,
            "attn_dim": attn_dim,
            "num_kv_heads": num_kv_heads,
            "dim_feedforward": dim_feedforward,
        },
        "z_dim": z_dim,
        "lookup_table": {
            "dim": d_model,
            "n_bins": n_bins,
            "tokenizer": "sentencepiece",
            "tokenizer_path": "tokenizer.json",
            "rank": rank,
        },
        "insert_bos_before_voice": insert_bos_before_voice,
    }
    return {"flow_lm": flow_lm, "mimi": mimi, "weights_path": None} | top_level


def write_checkpoint(
    folder: str | Path,
    config: Mapping[str, Any] | str,
    seed: int,
    dtype: str = "float32",
    *,
    eos_after: float | None = 25.0,
    tokenizer: str = "json",
) -> Path:
    """Write weights, tokenizer and configuration; returns the path of the configuration.

    Both this package and the original load the result with ``load_model(config=...)``.

    Args:
        folder: created when missing; gets ``config.yaml``, ``model.safetensors`` and ``tokenizer.json`` or
            ``tokenizer.model``. The configuration names the other two by their absolute paths.
        config: a mapping such as :func:`tiny_config` gives, or the name of a released configuration.
        seed, eos_after: see :func:`random_weights`.
        dtype: of the stored weights, ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        tokenizer: ``"json"`` or ``"sentencepiece"``.

    Raises:
        ConfigError: the configuration is impossible, or an argument is unknown.
    """
    import yaml

    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    document = _config_document(config)
    parsed = config_from_dict(document, "the synthetic configuration")
    n_bins = parsed.flow_lm.lookup_table.n_bins
    if tokenizer == "json":
        tokenizer_path = make_tokenizer_json(n_bins, folder / "tokenizer.json")
    elif tokenizer == "sentencepiece":
        tokenizer_path = make_sentencepiece_model(n_bins, folder / "tokenizer.model")
    else:
        raise ConfigError(f"The tokenizer has to be 'json' or 'sentencepiece', and it is {tokenizer!r}.")
    weights_path = folder / "model.safetensors"
    save_weights(random_weights(parsed, seed, eos_after=eos_after), weights_path, dtype)

    table = document["flow_lm"]["lookup_table"] | {"tokenizer_path": str(tokenizer_path)}
    document["flow_lm"] = document["flow_lm"] | {"lookup_table": table, "weights_path": None}
    document["mimi"] = document["mimi"] | {"weights_path": None}
    document["weights_path"] = str(weights_path)
    document.pop("weights_path_without_voice_cloning", None)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def _config_document(config: Mapping[str, Any] | str) -> dict[str, Any]:
    if not isinstance(config, str):
        return dict(config)
    import yaml

    path = _CONFIGS / f"{config}.yaml"
    if not path.is_file():
        raise ConfigError(f"There is no released configuration named {config!r}.")
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def save_weights(weights: Mapping[str, Float32Array], path: str | Path, dtype: str = "float32") -> None:
    """Write float32 arrays as safetensors in ``"float32"``, ``"float16"`` or ``"bfloat16"``.

    Raises:
        ConfigError: another type.
    """
    if dtype not in _STORED_TYPES:
        raise ConfigError(f"Weights are stored as float32, float16 or bfloat16, and not as {dtype!r}.")
    # By hand, because safetensors.numpy has no bfloat16 and would hold a second copy of large models.
    name_of_type, item_bytes = _STORED_TYPES[dtype]
    header: dict[str, Any] = {}
    end = 0
    for name, values in weights.items():
        begin, end = end, end + values.size * item_bytes
        header[name] = {"dtype": name_of_type, "shape": list(values.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the data
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in weights.values():
            file.write(_encode(values, dtype))


def _encode(values: Float32Array, dtype: str) -> bytes:
    values = np.ascontiguousarray(values, np.float32)
    if dtype == "float16":
        return values.astype(np.float16).tobytes()
    if dtype == "float32":
        return values.tobytes()
    bits = values.view(np.uint32)
    # Round to nearest, ties to even.
    return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16).tobytes()


def synthetic_prompt(seconds: float, sample_rate: int, seed: int) -> Float32Array:
    """A voice-like recording, float32 ``[round(seconds * sample_rate)]``: buzzing syllables and pauses.

    A pulse train between 90 and 180 Hz plus noise, in syllables of about 0.2 s with a pause after every few,
    at an RMS of about 0.1 and never beyond 1.
    """
    rng = np.random.default_rng(seed & (2**64 - 1))
    count = round(seconds * sample_rate)
    time = np.arange(count) / sample_rate
    pitch = 135.0 + 45.0 * np.sin(2 * math.pi * (0.7 * time + rng.random()))
    phase = 2 * math.pi * np.cumsum(pitch) / sample_rate
    buzz = sum(np.sin(k * phase + rng.random()) / k for k in range(1, 12) if k * 180 < sample_rate / 2)
    sound = buzz + 0.3 * rng.standard_normal(count)

    envelope = np.zeros(count)
    start = 0.0
    while start < seconds:
        for _ in range(int(rng.integers(2, 6))):
            length = float(rng.uniform(0.12, 0.28))
            inside = (time >= start) & (time < start + length)
            envelope[inside] = rng.uniform(0.4, 1.0) * np.sin(math.pi * (time[inside] - start) / length)
            start += length
        start += float(rng.uniform(0.1, 0.3))
    voice: Float32Array = np.clip(0.25 * sound * envelope, -1.0, 1.0).astype(np.float32)
    return voice
