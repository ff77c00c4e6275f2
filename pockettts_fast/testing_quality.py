"""How far the lower precisions are from float32, frame by frame, and checkpoints that are hard for them.

Both models are fed the same voice, text, noise and past latents (teacher forcing): a difference is the
arithmetic of that frame and of what its cache holds, and not the drift of two sentences that parted long ago.
"""

import math
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pockettts_fast.config import Config
from pockettts_fast.flow_lm import FlowLM
from pockettts_fast.mimi import MimiDecoder
from pockettts_fast.safetensors_file import TensorView
from pockettts_fast.weights import WeightSet

Float32Array = npt.NDArray[np.float32]

_FRAMES_A_CALL = 8
_WINDOW_S, _QUIET_SHARE = 0.005, 0.05
_NOISE_BOUND = 3.0  # the variance of released models is 0.3: nothing larger is drawn in practice


@dataclass(frozen=True)
class Utterance:
    """What a sentence is made from.

    Attributes:
        prompt: the encoded voice, float32 ``[frames, conditioning_dim]``.
        ids: the text.
        noise: float32 ``[frames, latent_dim]``, one row for each frame to speak.
    """

    prompt: Float32Array
    ids: list[int]
    noise: Float32Array


@dataclass(frozen=True)
class LatentQuality:
    """A language model against float32.

    Attributes:
        frames: how many were compared.
        latent_error: RMS of the differences, as a share of the RMS of the float32 latents.
        worst_frame: the largest such share of a single frame.
        eos_error: RMS of the differences of the end-of-speech logits.
        eos_worst: the largest of them.
        eos_spread: standard deviation of the float32 logits over the frames, to compare with.
    """

    frames: int
    latent_error: float
    worst_frame: float
    eos_error: float
    eos_worst: float
    eos_spread: float


@dataclass(frozen=True)
class SoundQuality:
    """A codec against float32.

    Attributes:
        frames: how many were compared.
        signal_db: RMS of the float32 samples, in dB of full scale.
        snr_db: signal to error over everything.
        worst_frame_db: the lowest signal to error of a single frame.
        floor_db: RMS of the error in the quietest 5 % of all windows of 5 ms, in dB of the signal's RMS.
        quiet_db: RMS of the signal in these windows, likewise.
    """

    frames: int
    signal_db: float
    snr_db: float
    worst_frame_db: float
    floor_db: float
    quiet_db: float


def random_utterance(config: Config, seed: int, *, frames: int = 300, prompt: int = 125, ids: int = 25) -> Utterance:
    """Noise of the configuration's temperature, a random voice of ``prompt`` frames, a random text."""
    rng = np.random.default_rng(seed)
    deviation = math.sqrt(config.default_temperature)
    noise = np.clip(rng.standard_normal((frames, config.latent_dim)), -_NOISE_BOUND, _NOISE_BOUND) * deviation
    return Utterance(
        rng.standard_normal((prompt, config.mimi.conditioning_dim)).astype(np.float32),
        [int(i) for i in rng.integers(0, config.flow_lm.lookup_table.n_bins, ids)],
        noise.astype(np.float32),
    )


def weight_set(arrays: Mapping[str, Float32Array]) -> WeightSet:
    """Arrays by upstream's names as what the loader gives, without a file."""
    tensors = {name: TensorView.from_array(name, values, "memory") for name, values in arrays.items()}
    return WeightSet(tensors, ExitStack(), [], has_voice_cloning=True, has_custom_weights=False)


def speak(flow_lm: FlowLM, given: Utterance, fed: Float32Array | None = None) -> tuple[Float32Array, Float32Array]:
    """Latents ``[frames, latent_dim]`` and end-of-speech logits ``[frames]`` of every frame.

    Args:
        fed: the latents that the model is told it spoke, ``[frames, latent_dim]``; ``None`` for its own.
    """
    state = flow_lm.state_from_prompt(given.prompt)
    flow_lm.prefill_text(state, given.ids)
    previous = np.full((1, flow_lm.latent_dim), np.nan, np.float32)
    latents, ends = [], []
    for index, noise in enumerate(given.noise):
        latent, end = flow_lm.step([state], previous, noise[None])
        latents.append(latent)
        ends.append(end)
        previous = latent if fed is None else fed[index, None]
    return np.concatenate(latents), np.concatenate(ends)


def decode(decoder: MimiDecoder, latents: Float32Array) -> Float32Array:
    """All frames of one stream -> samples ``[frames, samples_per_frame]``."""
    state = decoder.new_state()
    parts = [
        decoder.step([state], [np.ascontiguousarray(latents[i : i + _FRAMES_A_CALL])])[0]
        for i in range(0, len(latents), _FRAMES_A_CALL)
    ]
    return np.concatenate(parts).reshape(len(latents), -1)


def compare_language_models(exact: FlowLM, other: FlowLM, given: Utterance) -> tuple[LatentQuality, Float32Array]:
    """``other`` step by step beside ``exact``, which speaks freely; also the latents that ``exact`` spoke."""
    spoken, ends = speak(exact, given)
    latents, other_ends = speak(other, given, spoken)
    off, end_off = latents - spoken, other_ends - ends
    worst = max(_rms(off[i]) / _rms(spoken[i]) for i in range(len(off)))
    quality = LatentQuality(
        len(off),
        _rms(off) / _rms(spoken),
        worst,
        _rms(end_off),
        float(np.abs(end_off).max()),
        float(ends.std()),
    )
    return quality, spoken


def compare_codecs(exact: MimiDecoder, other: MimiDecoder, latents: Float32Array, sample_rate: int) -> SoundQuality:
    """Both decoders with the same latents ``[frames, latent_dim]``."""
    return compare_sounds(decode(exact, latents), decode(other, latents), sample_rate)


def compare_sounds(exact: Float32Array, other: Float32Array, sample_rate: int) -> SoundQuality:
    """Two sounds ``[frames, samples]`` that should be the same."""
    off = other - exact
    signal = _rms(exact)
    window = max(1, round(_WINDOW_S * sample_rate))
    windows = exact.size // window * window
    pieces, errors = (x.reshape(-1)[:windows].reshape(-1, window) for x in (exact, off))
    loudness = np.sqrt(np.square(pieces, dtype=np.float64).mean(axis=1))
    quiet = np.argsort(loudness)[: max(1, round(_QUIET_SHARE * len(loudness)))]
    return SoundQuality(
        len(exact),
        _db(signal),
        _db(signal / _rms(off)) if off.any() else math.inf,
        min((_db(_rms(e) / _rms(o)) for e, o in zip(exact, off, strict=True) if o.any()), default=math.inf),
        _db(_rms(errors[quiet]) / signal),
        _db(_rms(pieces[quiet]) / signal),
    )


def with_outliers(
    weights: Mapping[str, Float32Array],
    seed: int,
    *,
    factor: float = 30.0,
    share: float = 0.01,
    in_weights: bool = True,
    in_activations: bool = True,
) -> dict[str, Float32Array]:
    """The checkpoint with a few weights and activations of the language model ``factor`` times larger.

    Args:
        weights: every tensor, float32, by upstream's names; not changed.
        seed: chooses them.
        share: of the weights of each output, and of the channels, that become large; at least one.
        in_weights: entries of the transformer's matrices; every output is then scaled back to its old norm.
        in_activations: channels behind the transformer's norms. What reads them is divided by ``factor``, so
            that in float32 the model stays the same function, as it is with channels that training grew.
    """
    rng = np.random.default_rng(seed)
    out = dict(weights)
    if in_weights:
        for name in weights:
            if re.fullmatch(r"flow_lm\.transformer\..*(in_proj|out_proj|linear[12])\.weight", name):
                out[name] = _with_large_entries(weights[name], rng, factor, share)
    if in_activations:
        for norm, readers in _norms(weights).items():
            width = len(weights[f"{norm}.weight"])
            channels = rng.choice(width, max(1, round(share * width)), replace=False)
            for part in ("weight", "bias"):
                out[f"{norm}.{part}"] = out[f"{norm}.{part}"].copy()
                out[f"{norm}.{part}"][channels] *= np.float32(factor)
            for reader in readers:
                out[reader] = out[reader].copy()
                out[reader][:, channels] /= np.float32(factor)
    return out


def with_silence(weights: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
    """The checkpoint with a decoder that is silent when its input is: no offsets, small layer scales."""
    out = dict(weights)
    for name, values in weights.items():
        if re.match(r"mimi\.decoder(_transformer)?\..*\.bias$", name) or name == "flow_lm.emb_mean":
            out[name] = np.zeros_like(values)
        elif re.match(r"mimi\.decoder_transformer\..*layer_scale_\d\.scale$", name):
            out[name] = np.full_like(values, 0.01)
    return out


def _with_large_entries(matrix: Float32Array, rng: np.random.Generator, factor: float, share: float) -> Float32Array:
    rows, columns = matrix.shape
    count = max(1, round(share * columns))
    chosen = rng.integers(0, columns, (rows, count))
    out: Float32Array = matrix.copy()
    out[np.arange(rows)[:, None], chosen] = matrix[np.arange(rows)[:, None], chosen] * np.float32(factor)
    out *= np.linalg.norm(matrix, axis=1, keepdims=True) / np.linalg.norm(out, axis=1, keepdims=True)
    return out


def _norms(weights: Mapping[str, Float32Array]) -> dict[str, list[str]]:
    """The language model's norms, and the matrices that read what each of them gives."""
    found = (re.match(r"(flow_lm\.transformer\.layers\.\d+)\.", name) for name in weights)
    norms = {
        f"{layer}.{norm}": [f"{layer}.{reader}.weight"]
        for layer in sorted({match[1] for match in found if match})
        for norm, reader in (("norm1", "self_attn.in_proj"), ("norm2", "linear1"))
    }
    projected = "flow_lm.z_proj.weight" in weights
    last = ["flow_lm.z_proj.weight"] if projected else ["flow_lm.flow_net.cond_embed.weight", "flow_lm.out_eos.weight"]
    return {**norms, "flow_lm.out_norm": last}


def _rms(x: Float32Array) -> float:
    return float(np.sqrt(np.square(x, dtype=np.float64).mean()))


def _db(ratio: float) -> float:
    return 20.0 * math.log10(ratio) if ratio > 0 else -math.inf
