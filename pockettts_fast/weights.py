"""From a configuration to its weights: which files, under which names, checked as a whole.

The rules are those of upstream's ``TTSModel._from_pydantic_config_with_weights`` and
``TTSModel.load_training_checkpoint`` (``pocket_tts.models.tts_model``):

- ``weights_path`` names one file with every tensor. When it cannot be downloaded (it is gated),
  ``weights_path_without_voice_cloning`` takes its place.
- ``flow_lm.weights_path`` and ``mimi.weights_path`` name two files of the training code, which call
  tensors otherwise and may hold convolutions as weight norms.
- ``mimi.weights_path`` beside ``weights_path`` replaces the codec of the one file.
- A training checkpoint (``.pt``) holds the language model and usually not the codec, which then comes
  from the configuration.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from pockettts_fast.config import Config, check_weight_sources
from pockettts_fast.errors import ConfigError, DependencyError, DownloadError, MissingFileError, WeightsError
from pockettts_fast.hub import resolve
from pockettts_fast.safetensors_file import Checkpoint, TensorView, open_checkpoint
from pockettts_fast.weight_names import Shapes, expected_tensors, raw_flow_lm_name, raw_mimi_name

logger = logging.getLogger(__name__)

_MAX_NAMED_FAULTS = 10

Tensors = dict[str, TensorView]
StageTensors = dict[str, tuple[npt.NDArray[np.uint8], str, tuple[int, ...]]]
"""Name -> bytes, element type and shape: what the constructors of ``_core`` stages read."""


class WeightSet(Mapping[str, TensorView]):
    """Every tensor of a model, by the names of :func:`~pockettts_fast.weight_names.expected_tensors`.

    The files stay mapped until :meth:`close`; a context manager.

    Attributes:
        has_voice_cloning: False when the weights without voice cloning had to be taken.
        has_custom_weights: True when they come from a training checkpoint, which the built-in voices
            (states of the released weights) do not fit.
    """

    def __init__(
        self,
        tensors: Tensors,
        files: ExitStack,
        checkpoints: list[Checkpoint],
        *,
        has_voice_cloning: bool,
        has_custom_weights: bool,
    ) -> None:
        self._tensors = tensors
        self._files = files
        self._checkpoints = checkpoints
        self.has_voice_cloning = has_voice_cloning
        self.has_custom_weights = has_custom_weights

    def __getitem__(self, name: str) -> TensorView:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __enter__(self) -> "WeightSet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def float32(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor as float32, without a copy where the file has it so (then read-only)."""
        return self._tensors[name].to_float32()

    def stage(self, *prefixes: str) -> StageTensors:
        """The tensors under one of ``prefixes``, which is cut off, as the ``_core`` stages take them."""
        out: StageTensors = {}
        for name, view in self._tensors.items():
            prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
            if prefix is not None:
                if view.dtype == "F64":
                    view = TensorView.from_array(name, view.to_float32(), view.source)
                out[name.removeprefix(prefix)] = (view.data, view.dtype, view.shape)
        return out

    def advise_dontneed(self) -> None:
        """Take the files' pages out of resident memory, for instance after packing each layer."""
        for checkpoint in self._checkpoints:
            checkpoint.advise_dontneed()

    def close(self) -> None:
        """Forget the tensors and unmap the files (see :meth:`Checkpoint.close`)."""
        self._tensors = {}
        self._files.close()


def load_tensors(config: Config, checkpoint_path: str | Path | None = None) -> WeightSet:
    """Find, open and check the weights of a configuration, or of a training checkpoint for it.

    Raises:
        ConfigError: the configuration names no weights, or only one half of them.
        WeightsError: a file is damaged, tensors are missing, left over or misshapen, or hold other than
            finite floating-point numbers.
        DownloadError, MissingFileError: a file cannot be had.
        DependencyError: a training checkpoint is given and PyTorch is not installed.
    """
    with ExitStack() as files:
        loader = _Loader(config, files)
        if checkpoint_path is None:
            tensors = loader.load_configured()
        else:
            tensors = loader.load_training_checkpoint(Path(checkpoint_path))
        _check_tensors(tensors, expected_tensors(config), loader.main_source)
        weights = WeightSet(
            {name: tensors[name] for name in expected_tensors(config)},
            files.pop_all(),
            loader.checkpoints,
            has_voice_cloning=loader.has_voice_cloning,
            has_custom_weights=checkpoint_path is not None,
        )
    # The check above has read every page.
    weights.advise_dontneed()
    return weights


class _Loader:
    """One run of the loading rules: opens files as it needs them and remembers what it met."""

    def __init__(self, config: Config, files: ExitStack) -> None:
        self._config = config
        self._files = files
        self.checkpoints: list[Checkpoint] = []
        self.has_voice_cloning = True
        self.main_source = "the checkpoint"

    def load_configured(self) -> Tensors:
        """The tensors that the configuration's own addresses name."""
        config = self._config
        check_weight_sources(config, "the configuration")
        codec_address = config.mimi.weights_path
        if config.weights_path is not None:
            tensors = dict(self._open_bundle(config.weights_path))
        else:
            assert config.flow_lm.weights_path is not None  # checked above
            tensors = _prefixed("flow_lm.", _rename_flow_lm(self._open(config.flow_lm.weights_path)))
        if codec_address is not None:
            codec = _prefixed("mimi.", _rename_mimi(self._open(codec_address)))
            tensors = {name: view for name, view in tensors.items() if not name.startswith("mimi.")} | codec
        return tensors

    def load_training_checkpoint(self, path: Path) -> Tensors:
        """The language model of a ``.pt`` file, and the codec from there or from the configuration."""
        state = _read_training_checkpoint(path)
        self.main_source = str(path)
        flow_lm = {name: view for name, view in state.items() if name.startswith("flow_lm.")}
        if not flow_lm:
            raise WeightsError(f"The training checkpoint {path} holds no flow_lm.* weights.")
        codec = {name: view for name, view in state.items() if name.startswith("mimi.")}
        if codec:
            # Upstream ignores what the codec has too much in such files, and here only.
            names = expected_tensors(self._config)
            codec = {name: view for name, view in codec.items() if name in names}
        elif self._config.mimi.weights_path is not None:
            codec = _prefixed("mimi.", _rename_mimi(self._open(self._config.mimi.weights_path)))
        elif self._config.weights_path is not None:
            bundle = self._open_bundle(self._config.weights_path)
            codec = {name: view for name, view in bundle.items() if name.startswith("mimi.")}
        else:
            raise ConfigError(
                f"The training checkpoint {path} has no codec and the configuration names none; "
                "set mimi.weights_path or weights_path."
            )
        return flow_lm | codec

    def _open(self, address: str) -> Checkpoint:
        path = resolve(address, what="weights")
        logger.info("Loading weights from %s", path)
        checkpoint = self._files.enter_context(open_checkpoint(path))
        self.checkpoints.append(checkpoint)
        self.main_source = str(path) if len(self.checkpoints) == 1 else f"{self.main_source} and {path}"
        return checkpoint

    def _open_bundle(self, address: str) -> Checkpoint:
        fallback = self._config.weights_path_without_voice_cloning
        try:
            return self._open(address)
        except DownloadError as err:
            if fallback is None:
                raise
            logger.warning("Loading the weights without voice cloning, because: %s", err)
            self.has_voice_cloning = False
            return self._open(fallback)


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: view.renamed(prefix + name) for name, view in tensors.items()}


def _rename_flow_lm(checkpoint: Checkpoint) -> Tensors:
    renamed: Tensors = {}
    for name, view in checkpoint.items():
        _put(renamed, raw_flow_lm_name(name), view)
    return renamed


def _rename_mimi(checkpoint: Checkpoint) -> Tensors:
    """The codec's tensors of a raw Mimi file, or of any file that has this package's ``mimi.*`` names."""
    if any(name.startswith("mimi.") for name in checkpoint):
        return {name.removeprefix("mimi."): view for name, view in checkpoint.items() if name.startswith("mimi.")}
    renamed: Tensors = {}
    for name, view in checkpoint.items():
        if name.endswith(".weight_v"):
            continue
        if name.endswith(".weight_g"):
            stem = name.removesuffix("_g")
            new_name = raw_mimi_name(stem)
            direction = checkpoint.get(f"{stem}_v")
            if new_name is None:
                continue
            if direction is None:
                raise WeightsError(f"{view.source} holds {name!r} without the matching {stem + '_v'!r}.")
            view = TensorView.from_array(new_name, fold_weight_norm(direction, view), view.source)
            _put(renamed, new_name, view)
        else:
            _put(renamed, raw_mimi_name(name), view)
    return renamed


def _put(tensors: Tensors, name: str | None, view: TensorView) -> None:
    if name is None:
        return
    if name in tensors:
        raise WeightsError(f"{view.source} holds two tensors for {name!r}; one was expected.")
    tensors[name] = view


def fold_weight_norm(direction: TensorView, magnitude: TensorView) -> npt.NDArray[np.float32]:
    """``v * g / |v|`` with the norm over all axes but the first (Salimans and Kingma 2016), float32."""
    v = direction.to_float32()
    g = magnitude.to_float32()
    if v.ndim == 0 or g.size != v.shape[0]:
        raise WeightsError(
            f"Tensor {magnitude.name!r} of {magnitude.source} has shape {magnitude.shape}; "
            f"one value for each of the first axis of {direction.shape} was expected."
        )
    norms = np.sqrt(np.square(v, dtype=np.float64).reshape(len(v), -1).sum(axis=1)).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # a zero direction becomes NaN, which is reported
        scale = (g.reshape(-1) / norms).reshape(-1, *(1,) * (v.ndim - 1))
        folded: npt.NDArray[np.float32] = v * scale
    return folded


def _read_training_checkpoint(path: Path) -> Tensors:
    """Model and EMA weights of a training checkpoint; the EMA, where there is one, wins."""
    if not path.exists():
        raise MissingFileError(f"The training checkpoint {path} does not exist.")
    try:
        import torch
    except ImportError as err:
        raise DependencyError(
            f"Reading the training checkpoint {path} needs PyTorch, which is not installed; "
            "run `pip install torch`, or convert the checkpoint to safetensors."
        ) from err
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # torch raises what the unpickler raised: many kinds, all meaning this
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise WeightsError(f"{path} is no readable training checkpoint: {reason}") from err
    state = payload.get("model") if isinstance(payload, dict) else None
    if not isinstance(state, dict):
        raise WeightsError(f"The training checkpoint {path} holds no 'model' weights.")
    # The EMA follows trained parameters only; the frozen ones are in 'model' alone.
    state = {**state, **(payload.get("ema") or {})}
    return {
        name: _view_of_torch_tensor(torch, name, tensor, path)
        for name, tensor in state.items()
        if name.startswith(("flow_lm.", "mimi."))
    }


def _view_of_torch_tensor(torch: Any, name: str, tensor: Any, path: Path) -> TensorView:
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise WeightsError(f"{name!r} of {path} is no floating-point tensor.")
    return TensorView.from_array(name, tensor.detach().to(torch.float32).contiguous().numpy(), str(path))


def _check_tensors(tensors: Tensors, expected: Shapes, source: str) -> None:
    """Names, shapes, types and values of the whole set; every fault in one error."""
    faults = [f"{name} {list(shape)} is missing" for name, shape in expected.items() if name not in tensors]
    for name, view in tensors.items():
        if name not in expected:
            faults.append(f"{name} {list(view.shape)} is not part of this model")
        elif view.shape != expected[name]:
            faults.append(f"{name} has shape {list(view.shape)} instead of {list(expected[name])}")
        elif not view.is_float:
            faults.append(f"{name} holds {view.dtype} values instead of F32, F16, BF16 or F64")
        elif not view.is_finite():
            faults.append(f"{name} holds NaN or infinite values")
    if faults:
        listed = "; ".join(faults[:_MAX_NAMED_FAULTS])
        more = f"; and {len(faults) - _MAX_NAMED_FAULTS} more" if len(faults) > _MAX_NAMED_FAULTS else ""
        raise WeightsError(f"The weights of {source} do not fit the configuration: {listed}{more}.")
