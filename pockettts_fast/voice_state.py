"""Voice states: the language model's memory of a voice prompt, in files and in checks.

A state holds, for every attention layer of the language model, the keys and values of the prompt. The
format is upstream's (``pocket_tts.models.model_state``), so files cross over in both directions: a
safetensors file with one tensor per layer and kind, named ``module/kind``.
"""

import contextlib
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pockettts_fast.errors import OutputError, VoiceError, WeightsError
from pockettts_fast.safetensors_file import TensorView, open_checkpoint
from pockettts_fast.weight_names import attention_shape

if TYPE_CHECKING:
    from pockettts_fast.config import Config

logger = logging.getLogger(__name__)

ModelState = dict[str, dict[str, npt.NDArray[Any]]]
"""Per module ``transformer.layers.{i}.self_attn``: ``offset`` int64 ``[1]``, the number of positions that
are filled; ``pad`` int64 ``[1]``, always 0 here; ``cache`` float32 ``[2, 1, T, kv_heads, head_dim]``, keys
(after rotation) and values. Positions from ``offset`` on are undefined, often NaN."""


def attention_module(layer: int) -> str:
    """Name in a state of the attention of one layer of the language model."""
    return f"transformer.layers.{layer}.self_attn"


def export_model_state(state: Mapping[str, Mapping[str, Any]], dest: str | Path) -> None:
    """Write a state to ``dest``, which appears complete or not at all.

    Args:
        state: as :data:`ModelState`; anything that ``numpy.asarray`` takes will do for the values.
        dest: file to write; a state that is there already is replaced.

    Raises:
        OutputError: the file cannot be written.
        VoiceError: the mapping is no state.
    """
    if not isinstance(state, Mapping):
        raise VoiceError(f"A voice state is a mapping of modules to arrays, and this is a {type(state).__name__}.")
    tensors: dict[str, npt.NDArray[Any]] = {}
    for module, entries in state.items():
        if not isinstance(entries, Mapping):
            raise VoiceError(f"A voice state maps modules to arrays by name, and {module!r} is no mapping.")
        for kind, value in entries.items():
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise VoiceError(f"The entry {module}/{kind} of the voice state is no array of numbers.")
            tensors[f"{module}/{kind}"] = np.array(array, order="C")  # keeps 0-d arrays 0-d
    if not tensors:
        raise VoiceError("The voice state is empty; it has to come from get_state_for_audio_prompt.")

    import safetensors.numpy

    _replace_file(Path(dest), safetensors.numpy.save(tensors))


def read_model_state(path: str | Path) -> ModelState:
    """Read a state file, in the current format or the legacy one, into arrays of its own.

    In the legacy format the LENGTH of ``current_end`` is the offset. Caches in F16 or BF16 become float32.

    Raises:
        MissingFileError: there is no such file.
        VoiceError: it is no valid safetensors file, or holds other things than a state.
    """
    state: ModelState = {}
    try:
        with open_checkpoint(path) as checkpoint:
            for name, view in checkpoint.items():
                module, separator, kind = name.partition("/")
                if not (module and separator and kind) or "/" in kind:
                    raise VoiceError(
                        f"{path} is no voice state: it holds {name!r}, and names like "
                        f"'{attention_module(0)}/cache' were expected."
                    )
                kind, value = _read_entry(kind, view, path)
                if kind in state.setdefault(module, {}):
                    raise VoiceError(f"{path} is no voice state: {module} has two offsets.")
                state[module][kind] = value
    except WeightsError as err:
        raise VoiceError(f"The voice state cannot be read: {err}") from err
    if not state:
        raise VoiceError(f"{path} is no voice state: it holds no tensors.")
    return state


def _read_entry(kind: str, view: TensorView, path: str | Path) -> tuple[str, npt.NDArray[Any]]:
    if kind == "cache":
        return kind, np.array(view.to_float32(), order="C")
    if kind in ("offset", "pad"):
        return kind, view.to_integers()
    if kind == "current_end":
        if len(view.shape) == 0:
            raise VoiceError(f"{path} is no voice state: {view.name!r} has no length.")
        return "offset", np.array([view.shape[0]], np.int64)
    raise VoiceError(
        f"{path} is no voice state: it holds {view.name!r}, and a cache, an offset and a pad were expected."
    )


def check_model_state(state: Mapping[str, Mapping[str, Any]], config: "Config") -> int:
    """Check that a state fits a configuration; returns its offset, the number of filled positions.

    Values beyond the offset are not looked at: NaN is legal there.

    Raises:
        VoiceError: the state belongs to another model, contradicts itself, or holds NaN where it is filled.
    """
    layers = config.flow_lm.transformer.num_layers
    expected_modules = [attention_module(layer) for layer in range(layers)]
    if not isinstance(state, Mapping) or not all(isinstance(entries, Mapping) for entries in state.values()):
        raise VoiceError(
            "The voice state is no mapping of modules to arrays; make one with get_state_for_audio_prompt."
        )
    if set(state) != set(expected_modules):
        raise VoiceError(_explain_modules(list(state), expected_modules))

    kv_heads, head_dim = attention_shape(config.flow_lm)
    offsets = set()
    for module in expected_modules:
        entries = state[module]
        cache = _entry(entries, module, "cache")
        if cache.dtype.kind != "f":
            raise VoiceError(f"The cache of {module} holds {cache.dtype} values; float32 was expected.")
        if cache.ndim != 5 or cache.shape[:2] != (2, 1) or cache.shape[3:] != (kv_heads, head_dim):
            raise VoiceError(
                f"The voice is a state for another model: the cache of {module} has shape "
                f"{list(cache.shape)}, and this model's is [2, 1, positions, {kv_heads}, {head_dim}]."
            )
        offset = _integer(entries, module, "offset")
        if not 0 <= offset <= cache.shape[2]:
            raise VoiceError(
                f"The voice state contradicts itself: {module} claims {offset} positions and its cache "
                f"has {cache.shape[2]}."
            )
        if "pad" in entries and _integer(entries, module, "pad") != 0:
            raise VoiceError(
                f"The voice state of {module} begins with padding, as states of batches do; "
                "a state of a single voice was expected."
            )
        if not np.isfinite(cache[:, :, :offset]).all():
            raise VoiceError(f"The cache of {module} in the voice state holds NaN or infinite values.")
        offsets.add(offset)
    if len(offsets) > 1:
        raise VoiceError(
            f"The voice state contradicts itself: layers claim {min(offsets)} and {max(offsets)} positions."
        )
    return offsets.pop() if offsets else 0


def _explain_modules(found: list[str], expected: list[str]) -> str:
    known = set(expected)
    strange = sorted(name for name in found if not name.startswith("transformer.layers."))
    if strange:
        return f"The voice state holds {strange[0]!r}, and modules like {expected[0]!r} were expected."
    if len(found) != len(expected):
        return (
            f"The voice is a state for another model: it has {len(found)} layers, and this model has {len(expected)}."
        )
    wrong = next(name for name in found if name not in known)
    return f"The voice is a state for another model: it holds {wrong!r}, which this model does not have."


def _entry(entries: Mapping[str, Any], module: str, kind: str) -> npt.NDArray[Any]:
    if kind not in entries:
        raise VoiceError(f"The voice state has no {kind} for {module}.")
    return np.asarray(entries[kind])


def _integer(entries: Mapping[str, Any], module: str, kind: str) -> int:
    value = _entry(entries, module, kind)
    if value.size != 1 or value.dtype.kind not in "iu":
        raise VoiceError(
            f"The {kind} of {module} in the voice state has shape {list(value.shape)} of {value.dtype}; "
            "one integer was expected."
        )
    return int(value.reshape(-1)[0])


def _replace_file(dest: Path, content: bytes) -> None:
    """Write beside the destination, then rename over it, so that no partial file ever has its name."""
    try:
        # A link keeps pointing to its file, whose content changes.
        target = Path(os.path.realpath(dest))
        if target.is_dir():
            raise OutputError(f"{dest} is a directory; name a file to write the voice state to.")
        if target.exists() and not target.is_file():
            # A device or a pipe is written to; a rename would put a file in its place.
            target.write_bytes(content)
            return
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "xb") as file:
                file.write(content)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OutputError:
        raise
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        raise OutputError(f"The voice state cannot be written to {str(dest)!r}: {reason}.") from err
