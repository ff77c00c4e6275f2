"""What a configuration must satisfy: well-formed YAML, known keys, right types, and sizes that fit together.

The rules are those that upstream's modules state by failing (``pocket_tts.models``, ``pocket_tts.modules``,
4.0.1); here they are checked before anything is loaded, and each says what is wrong where.
"""

import difflib
import math
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pockettts_fast.errors import ConfigError, MissingFileError

if TYPE_CHECKING:
    import yaml

    from pockettts_fast.config import Config, MimiConfig, SEANetConfig

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

# A released file has 3 kB and 100 nodes. The limits keep a hostile one from costing more than a second.
_MAX_FILE_BYTES = 256 * 1024
_MAX_NODES = 20_000

_FLOW_TYPES = ("lsd", "flow_matching", "drifting", "pointwise")
_PAD_MODES = ("constant", "replicate")
_FLOAT32_NAMES = ("float32", "float")

_MAX_SIZE = 1 << 24
_MAX_PERIOD = 10**12
_MAX_LAYERS = 1024
_MAX_RATIOS = 12
_LAYER_COUNTS = ("num_layers", "depth", "n_residual_layers")
_ADDRESSES = ("weights_path", "weights_path_without_voice_cloning", "tokenizer_path")
_MAY_BE_ZERO = ("depth", "n_residual_layers", "model_recommended_frames_after_eos")


def read_yaml(path: Path, where: str) -> object:
    """Plain data of the YAML file at ``path``, which errors call ``where``.

    Raises:
        ConfigError: too large, not UTF-8, not one YAML document, a key twice, or too many aliases.
        MissingFileError: the file cannot be opened.
    """
    import yaml

    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as err:
        raise MissingFileError(f"The configuration {where} cannot be read ({err.strerror}).") from err
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{where} has more than {_MAX_FILE_BYTES >> 10} KiB: it is no configuration.")
    try:
        # libyaml's loader would overflow the stack on deep nesting; this one raises RecursionError.
        loader = yaml.SafeLoader(content.decode("utf-8"))
        # YAML 1.1 takes 1e4 for a string; people mean the number.
        loader.yaml_implicit_resolvers = {
            first: [("tag:yaml.org,2002:float", _EXPONENT), *loader.yaml_implicit_resolvers.get(first, [])]
            for first in {*loader.yaml_implicit_resolvers, *"-+0123456789"}
        }
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{where} is empty: a configuration has the keys flow_lm and mimi.")
        _check_nodes(node, where)
        return loader.construct_document(node)
    except UnicodeDecodeError as err:
        raise ConfigError(f"{where} is not UTF-8 (byte {err.start}): save it as UTF-8.") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"{where} is not valid YAML: {_one_line(err)}.") from err
    except RecursionError as err:
        raise ConfigError(f"{where} is nested too deeply: it is no configuration.") from err
    except ValueError as err:
        if isinstance(err, ConfigError):
            raise
        raise ConfigError(f"{where} has a value that cannot be read ({err}).") from err


_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")


def _one_line(err: "yaml.YAMLError") -> str:
    problem = getattr(err, "problem", None) or str(err).splitlines()[0]
    mark = getattr(err, "problem_mark", None)
    return f"line {mark.line + 1}, {problem}" if mark is not None else str(problem)


def _check_nodes(root: "yaml.Node", where: str) -> None:
    """Refuses keys given twice, aliases that contain themselves, and aliases that multiply."""
    import yaml

    sizes: dict[int, int | None] = {}

    def size_of(node: yaml.Node) -> int:
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                raise ConfigError(f"{where}, line {node.start_mark.line + 1}: an alias contains itself.")
            return known
        sizes[id(node)] = None
        size = 1
        if isinstance(node, yaml.MappingNode):
            seen: set[tuple[str, str]] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if (key.tag, key.value) in seen:
                        line = key.start_mark.line + 1
                        raise ConfigError(f"{where}, line {line}: the key {_short(key.value)} is there twice.")
                    seen.add((key.tag, key.value))
                size += size_of(key) + size_of(value)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(size_of(item) for item in node.value)
        if size > _MAX_NODES:
            raise ConfigError(f"{where} has more than {_MAX_NODES} values: it is no configuration.")
        sizes[id(node)] = size
        return size

    size_of(root)


def convert(data: object, into: type[_Struct], where: str) -> _Struct:
    """``data`` as the Struct ``into``.

    Raises:
        ConfigError: an unknown key, a missing key or a value of another type, named with its place.
    """
    tidied = _tidy(data, into, "", where)
    try:
        return msgspec.convert(tidied, into)
    except msgspec.ValidationError as err:
        problem, _, place = str(err).partition(" - at ")
        place = place.replace("`", "").replace("$.", "").replace("key in ", "a key of ").replace("[...]", "")
        problem = problem.replace("`", "").replace("array", "list").replace("object", "mapping")
        raise ConfigError(f"In {where}, {place or 'the value'} is wrong: {problem.lower()}.") from err


def _tidy(data: object, into: type[msgspec.Struct], place: str, where: str) -> dict[str, Any]:
    """``data`` with known keys only, complete, and with 4.0 as 4 where an integer is wanted."""
    if not isinstance(data, dict):
        what = f"{place} is" if place else "the configuration is"
        kind = "empty" if data is None else f"of type {type(data).__name__}"
        raise ConfigError(f"In {where}, {what} {kind}: it must be a mapping of keys to values.")
    fields = {field.name: field for field in msgspec.structs.fields(into)}
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(str(key)[:64], fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here are {', '.join(fields)}."
            raise ConfigError(f"In {where}, the key {_join(place, _short(key))} is unknown: {hint}")
    tidied: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in data:
            if field.required:
                raise ConfigError(f"In {where}, the key {_join(place, name)} is missing: add it.")
            continue
        kinds = typing.get_args(field.type) or (field.type,)
        struct = next((k for k in kinds if isinstance(k, type) and issubclass(k, msgspec.Struct)), None)
        value = data[name]
        if struct is not None and not (value is None and type(None) in kinds):
            value = _tidy(value, struct, _join(place, name), where)
        elif int in kinds and isinstance(value, list):
            value = [_whole(item) for item in value]
        elif int in kinds:
            value = _whole(value)
        tidied[name] = value
    return tidied


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _short(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() and value else repr(value)
    return text if len(text) <= 64 else text[:61] + "..."


def check(config: "Config", where: str) -> None:
    """Raises ConfigError for the first value of ``config`` that no model can have."""
    problem = next(_problems(config), None)
    if problem is not None:
        raise ConfigError(f"In {where}, {problem}.")


def _problems(config: "Config") -> Iterator[str]:
    # Lazy and in this order: the later rules divide by what the earlier ones have found to be positive.
    yield from _size_problems(config, "")
    yield from _text_problems(config)
    yield from _flow_lm_problems(config)
    yield from _mimi_problems(config.mimi)


def _size_problems(struct: msgspec.Struct, place: str) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        name, value = _join(place, field.name), getattr(struct, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _size_problems(value, name)
        elif isinstance(value, tuple) or (isinstance(value, int) and not isinstance(value, bool)):
            least = 0 if field.name in _MAY_BE_ZERO else 1
            most = _MAX_LAYERS if field.name in _LAYER_COUNTS else _MAX_SIZE
            most = _MAX_PERIOD if field.name == "max_period" else most
            for size in value if isinstance(value, tuple) else (value,):
                if not least <= size <= most:
                    yield f"{name} is {_short(size)}: it must be from {least} to {most}"
        elif field.name in _ADDRESSES and value is not None and (value == "" or "\0" in value):
            yield f"{name} is {value!r}: give the address of a file, or leave the key out"


def _text_problems(config: "Config") -> Iterator[str]:
    for key in config.replace_characters:
        if len(key) != 1:
            yield f"replace_characters has the key {key!r}: a key must be one character"
    if not (math.isfinite(config.default_temperature) and config.default_temperature >= 0):
        yield f"default_temperature is {config.default_temperature}: it must be a number from 0 up"
    if math.isnan(config.default_eos_threshold):
        yield "default_eos_threshold is nan: it must be a number"


def _flow_lm_problems(config: "Config") -> Iterator[str]:
    flow_lm, transformer = config.flow_lm, config.flow_lm.transformer
    if flow_lm.dtype not in _FLOAT32_NAMES:
        # Upstream fails in its first step with any other: half of its modules ignore the key.
        yield f"flow_lm.dtype is {flow_lm.dtype!r}: it must be float32, whatever type the weights have"
    if flow_lm.flow.type not in _FLOW_TYPES:
        yield f"flow_lm.flow.type is {flow_lm.flow.type!r}: it must be one of {', '.join(_FLOW_TYPES)}"
    width = "attn_dim" if transformer.attn_dim is not None else "d_model"
    yield from _head_problems("flow_lm.transformer", width, transformer.attention_dim, transformer.num_heads)
    if transformer.num_heads % transformer.kv_heads:
        yield (
            f"flow_lm.transformer.num_heads is {transformer.num_heads}: it must be a multiple of "
            f"num_kv_heads, which is {transformer.kv_heads}"
        )
    if flow_lm.lookup_table.dim != transformer.d_model:
        yield (
            f"flow_lm.lookup_table.dim is {flow_lm.lookup_table.dim}: it must equal "
            f"flow_lm.transformer.d_model, which is {transformer.d_model}"
        )


def _head_problems(place: str, width_name: str, width: int, num_heads: int) -> Iterator[str]:
    if width % num_heads:
        yield f"{place}.{width_name} is {width}: it must be a multiple of num_heads, which is {num_heads}"
    elif width // num_heads % 2:
        yield (
            f"{place}.{width_name} is {width} for {num_heads} heads of {width // num_heads}: a head must "
            "have an even width, because its position encoding turns pairs"
        )


def _mimi_problems(mimi: "MimiConfig") -> Iterator[str]:
    if mimi.dtype not in _FLOAT32_NAMES:
        yield f"mimi.dtype is {mimi.dtype!r}: it must be float32, whatever type the weights have"
    if mimi.channels != 1:
        yield f"mimi.channels is {mimi.channels}: it must be 1, speech is mono"
    decoder = "decoder_seanet" if mimi.decoder_seanet is not None else "seanet"
    for side, seanet in (("seanet", mimi.seanet), (decoder, mimi.decoding_seanet)):
        yield from _seanet_problems(f"mimi.{side}", seanet)
    if mimi.decoding_seanet.hop_length != mimi.hop_length:
        yield (
            f"mimi.decoder_seanet.ratios give {mimi.decoding_seanet.hop_length} samples a row: they must "
            f"give the {mimi.hop_length} of mimi.seanet.ratios"
        )
    yield from _frame_problems(mimi)

    decoding = "decoder_transformer" if mimi.decoder_transformer is not None else "transformer"
    sides = (
        ("transformer", mimi.transformer, "seanet", mimi.seanet.dimension),
        (decoding, mimi.decoding_transformer, decoder, mimi.decoding_seanet.dimension),
    )
    for side, transformer, codec, dimension in sides:
        place = f"mimi.{side}"
        yield from _head_problems(place, "d_model", transformer.d_model, transformer.num_heads)
        if not (math.isfinite(transformer.max_period) and transformer.max_period > 0):
            yield f"{place}.max_period is {transformer.max_period}: it must be a positive number"
        if not math.isfinite(transformer.layer_scale):
            yield f"{place}.layer_scale is {transformer.layer_scale}: it must be a number"
        if transformer.input_dimension != dimension:
            yield (
                f"{place}.input_dimension is {transformer.input_dimension}: it must equal "
                f"mimi.{codec}.dimension, which is {dimension}"
            )
        if transformer.output_dimensions != (dimension,):
            yield (
                f"{place}.output_dimensions is {_short(list(transformer.output_dimensions))}: it must be "
                f"[{dimension}], the dimension of mimi.{codec}"
            )
    yield from _resampling_problems(mimi, decoder)


def _seanet_problems(place: str, seanet: "SEANetConfig") -> Iterator[str]:
    if seanet.channels != 1:
        yield f"{place}.channels is {seanet.channels}: it must be 1, speech is mono"
    if seanet.pad_mode not in _PAD_MODES:
        yield f"{place}.pad_mode is {seanet.pad_mode!r}: it must be one of {', '.join(_PAD_MODES)}"
    if not 1 <= len(seanet.ratios) <= _MAX_RATIOS:
        yield f"{place}.ratios has {len(seanet.ratios)} values: it must have from 1 to {_MAX_RATIOS}"
    if seanet.n_residual_layers and seanet.compress > seanet.n_filters:
        yield f"{place}.compress is {seanet.compress}: it must be at most n_filters ({seanet.n_filters})"


def _frame_problems(mimi: "MimiConfig") -> Iterator[str]:
    if not (math.isfinite(mimi.frame_rate) and mimi.frame_rate > 0):
        yield f"mimi.frame_rate is {mimi.frame_rate}: it must be a positive number"
    rows = mimi.sample_rate / mimi.hop_length / mimi.frame_rate
    if rows < 1 or rows != int(rows) or int(mimi.sample_rate / mimi.frame_rate) != mimi.frame_size:
        yield (
            f"mimi.frame_rate is {mimi.frame_rate}, which gives {rows:g} rows of {mimi.hop_length} samples "
            f"a frame at {mimi.sample_rate} Hz: it must be a whole number of rows"
        )


def _resampling_problems(mimi: "MimiConfig", decoder: str) -> Iterator[str]:
    dimension, latent = mimi.decoding_seanet.dimension, mimi.quantizer.output_dimension
    if mimi.resample_stride == 1:
        # No resampling layer: nothing between the quantizer and the transformer, nor behind the encoder.
        if latent != dimension:
            yield (
                f"mimi.quantizer.output_dimension is {latent}: it must equal mimi.{decoder}.dimension, which "
                f"is {dimension}, because a frame is one row"
            )
        if mimi.conditioning_dim != mimi.seanet.dimension:
            yield (
                f"mimi.inner_dim is {mimi.inner_dim}: it must equal mimi.seanet.dimension, which is "
                f"{mimi.seanet.dimension}, because a frame is one row"
            )
        return
    if latent != mimi.upsample_in_dim:
        name = "mimi.outer_dim" if mimi.outer_dim is not None else f"mimi.{decoder}.dimension"
        yield f"mimi.quantizer.output_dimension is {latent}: it must equal {name} ({mimi.upsample_in_dim})"
    if mimi.upsample_in_dim % dimension:
        yield (
            f"mimi.outer_dim is {mimi.outer_dim}: it must be a multiple of mimi.{decoder}.dimension, which "
            f"is {dimension}"
        )
