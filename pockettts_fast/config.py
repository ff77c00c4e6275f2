"""The configuration of a model: upstream's schema, strict.

The Structs mirror ``pocket_tts.utils.config`` (4.0.1), with the same names and defaults. Every unknown,
missing or impossible value is a :class:`~pockettts_fast.errors.ConfigError` that names the key and its file.
Derived facts (head width, hop length, ...) are properties, so that no stage computes one for itself.
"""

import difflib
from pathlib import Path
from typing import Any

import msgspec

from pockettts_fast import config_rules, hub
from pockettts_fast.defaults import DEFAULT_EOS_THRESHOLD, DEFAULT_TEMPERATURE, DEMO_LANGUAGE
from pockettts_fast.errors import ConfigError, MissingFileError

CONFIGS_DIR = Path(__file__).parent / "configs"
"""Folder of the released configurations, ``<language>.yaml``."""
_DEMO_CONFIG = Path(__file__).parent / "demo" / "demo.yaml"


class UnknownLanguageError(ConfigError, MissingFileError):
    """No configuration of this language; a FileNotFoundError too, which upstream raises."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class FlowConfig(_Strict, frozen=True, kw_only=True):
    """The flow head: ``depth`` residual blocks, ``dim`` wide."""

    dim: int
    depth: int
    type: str = "lsd"

    @property
    def num_time_conditions(self) -> int:
        """Time embeddings of the head: start and end (lsd), now (flow_matching), none."""
        return {"lsd": 2, "flow_matching": 1}.get(self.type, 0)


class FlowLMTransformerConfig(_Strict, frozen=True, kw_only=True):
    """The backbone. ``attn_dim``, ``num_kv_heads`` and ``dim_feedforward`` are None where they follow."""

    hidden_scale: int
    max_period: int
    d_model: int
    num_heads: int
    num_layers: int
    attn_dim: int | None = None
    num_kv_heads: int | None = None
    dim_feedforward: int | None = None

    @property
    def attention_dim(self) -> int:
        """Width of the queries and of the attention's output."""
        return self.attn_dim or self.d_model

    @property
    def head_dim(self) -> int:
        return self.attention_dim // self.num_heads

    @property
    def kv_heads(self) -> int:
        """Key/value heads; each serves ``num_heads // kv_heads`` query heads."""
        return self.num_kv_heads or self.num_heads

    @property
    def feedforward_dim(self) -> int:
        return self.dim_feedforward or self.d_model * self.hidden_scale


class LookupTable(_Strict, frozen=True, kw_only=True):
    """The text embedding: ``n_bins + 1`` rows (the last one is padding), ``rank`` or ``dim`` wide."""

    dim: int
    n_bins: int
    tokenizer: str
    tokenizer_path: str
    rank: int | None = None


class FlowLMConfig(_Strict, frozen=True, kw_only=True):
    """The language model."""

    dtype: str
    flow: FlowConfig
    transformer: FlowLMTransformerConfig
    z_dim: int | None = None
    lookup_table: LookupTable
    weights_path: str | None = None
    insert_bos_before_voice: bool = False

    @property
    def condition_dim(self) -> int:
        """Width of what the flow head and the EOS head see: ``z_dim``, or ``d_model`` without projection."""
        return self.z_dim or self.transformer.d_model


class SEANetConfig(_Strict, frozen=True, kw_only=True):
    """The codec's convolutions; ``ratios`` are in the decoder's order."""

    dimension: int
    channels: int
    n_filters: int
    n_residual_layers: int
    ratios: tuple[int, ...]
    kernel_size: int
    residual_kernel_size: int
    last_kernel_size: int
    dilation_base: int
    pad_mode: str
    compress: int

    @property
    def hop_length(self) -> int:
        """Samples for one row of the codec's transformer."""
        product = 1
        for ratio in self.ratios:
            product *= ratio
        return product


class MimiTransformerConfig(_Strict, frozen=True, kw_only=True):
    """A transformer of the codec, with its projections in and out where the widths differ."""

    d_model: int
    input_dimension: int
    output_dimensions: tuple[int, ...]
    num_heads: int
    num_layers: int
    layer_scale: float
    context: int
    max_period: float = 10000.0
    dim_feedforward: int

    @property
    def head_dim(self) -> int:
        return self.d_model // self.num_heads

    @property
    def output_dimension(self) -> int:
        return self.output_dimensions[0]


class QuantizerConfig(_Strict, frozen=True, kw_only=True):
    """The 1x1 projection of a latent (``dimension``) to ``output_dimension``."""

    dimension: int
    output_dimension: int


class MimiConfig(_Strict, frozen=True, kw_only=True):
    """The codec."""

    dtype: str
    sample_rate: int
    channels: int
    frame_rate: float
    seanet: SEANetConfig
    transformer: MimiTransformerConfig
    quantizer: QuantizerConfig
    weights_path: str | None = None
    inner_dim: int | None = None
    outer_dim: int | None = None
    decoder_seanet: SEANetConfig | None = None
    decoder_transformer: MimiTransformerConfig | None = None

    @property
    def decoding_seanet(self) -> SEANetConfig:
        """The decoding side's: ``decoder_seanet``, or ``seanet`` when both sides are alike."""
        return self.decoder_seanet or self.seanet

    @property
    def decoding_transformer(self) -> MimiTransformerConfig:
        """The decoding side's: ``decoder_transformer``, or ``transformer`` when both sides are alike."""
        return self.decoder_transformer or self.transformer

    @property
    def hop_length(self) -> int:
        """Samples for one row of the codec's transformers (1920 / 16 = 120 in the released models)."""
        return self.seanet.hop_length

    @property
    def resample_stride(self) -> int:
        """Rows of the codec's transformers in one frame; 1 means that there is no resampling layer."""
        return int(self.sample_rate / self.hop_length / self.frame_rate)

    @property
    def frame_size(self) -> int:
        """Samples in one frame."""
        return self.hop_length * self.resample_stride

    @property
    def conditioning_dim(self) -> int:
        """Width of an encoded frame, which the speaker projection reads."""
        return self.inner_dim or self.seanet.dimension

    @property
    def upsample_in_dim(self) -> int:
        """Channels that enter the upsampling layer; a multiple of those that leave it."""
        return self.outer_dim or self.decoding_seanet.dimension


class Config(_Strict, frozen=True, kw_only=True):
    """A whole model: its parts, where its weights are, and how its text is prepared."""

    flow_lm: FlowLMConfig
    mimi: MimiConfig
    weights_path: str | None = None
    weights_path_without_voice_cloning: str | None = None
    pad_with_spaces_for_short_inputs: bool = False
    remove_semicolons: bool = False
    append_terminal_punctuation: bool = True
    capitalize_first_letter: bool = True
    replace_characters: dict[str, str] = {}
    model_recommended_frames_after_eos: int | None = None
    default_temperature: float = DEFAULT_TEMPERATURE
    default_eos_threshold: float = DEFAULT_EOS_THRESHOLD

    @property
    def latent_dim(self) -> int:
        """Width of a latent."""
        return self.mimi.quantizer.dimension


def available_languages() -> list[str]:
    """Names that :func:`language_config_path` knows, sorted."""
    names = {path.stem for path in CONFIGS_DIR.glob("*.yaml")}
    if _DEMO_CONFIG.is_file():
        names.add(DEMO_LANGUAGE)
    return sorted(names)


def language_config_path(language: str) -> Path:
    """Path of the configuration of a released language, or of ``"demo"``.

    Raises:
        UnknownLanguageError: no such language; the message lists those there are.
    """
    names = available_languages()
    if language not in names:
        near = difflib.get_close_matches(str(language), names, n=1)
        hint = f"did you mean {near[0]!r}? The" if near else "the"
        raise UnknownLanguageError(
            f"There is no language {language!r}: {hint} available languages are {', '.join(names)}."
        )
    return _DEMO_CONFIG if language == DEMO_LANGUAGE else CONFIGS_DIR / f"{language}.yaml"


def load_config(source: str | Path) -> Config:
    """Configuration from a YAML file: a local path, or an address for :func:`pockettts_fast.hub.resolve`.

    Relative paths inside the file are relative to the working directory, as in upstream.

    Raises:
        ConfigError: not a YAML file name, not YAML, or not a possible configuration.
        MissingFileError, DownloadError: the file cannot be had.
    """
    name = hub.path_part(source)
    if not name.lower().endswith((".yaml", ".yml")):
        hint = f"; {name!r} is a language: pass it as language" if name in available_languages() else ""
        raise ConfigError(f"The configuration {str(source)!r} must end with .yaml or .yml{hint}.")
    path = hub.resolve(source, what="configuration")
    return config_from_dict(config_rules.read_yaml(path, str(source)), str(source))


def config_from_dict(data: object, where: str) -> Config:
    """Checked configuration from plain data, as YAML or :func:`config_to_dict` give it.

    Args:
        data: nested dictionaries with the keys of :class:`Config`.
        where: what to call the source in errors.

    Raises:
        ConfigError: an unknown, missing or impossible value; the message names it.
    """
    config = config_rules.convert(data, Config, where)
    config_rules.check(config, where)
    return config


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain data with every key, defaults included; :func:`config_from_dict` gives an equal configuration."""
    data: dict[str, Any] = msgspec.to_builtins(config)
    return data


def check_weight_sources(config: Config, where: str) -> None:
    """Raises ConfigError when the places of the weights do not add up to a model.

    Not part of loading a configuration: weights from a training checkpoint need none of this.
    """
    flow_lm, mimi, bundle = config.flow_lm.weights_path, config.mimi.weights_path, config.weights_path
    if flow_lm is not None and mimi is None:
        raise ConfigError(f"In {where}, flow_lm.weights_path is set: set mimi.weights_path too.")
    if flow_lm is None and bundle is None:
        also = "mimi.weights_path is set alone" if mimi is not None else "no weights are named"
        raise ConfigError(f"In {where}, {also}: set weights_path or flow_lm.weights_path.")
