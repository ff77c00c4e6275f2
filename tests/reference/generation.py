"""The loop over chunks and frames without threads, from upstream's TTSModel.generate_audio_stream.

Everything is called one frame at a time, so what the engine gives must be equal bit for bit.
"""

from dataclasses import dataclass

import numpy as np

from pockettts_fast import TTSModel
from pockettts_fast.sampling import NoiseSource
from pockettts_fast.voice_state import ModelState

FRAMES_WITHOUT_END = 6


@dataclass(frozen=True)
class Spoken:
    """Audio [samples] and latents [frames, latent] of one chunk, and whether it ran into its limit."""

    audio: np.ndarray
    latents: np.ndarray
    reached_limit: bool


def most_frames(model: TTSModel, tokens: int) -> int:
    """ceil((tokens / 3 + 2 s) * frames a second)."""
    return int(np.ceil((tokens / 3.0 + 2.0) * model.config.mimi.frame_rate))


def ramp(count: int) -> np.ndarray:
    """0 to 1 in float32, as torch.linspace computes it: from both ends towards the middle."""
    if count == 1:
        return np.zeros(1, np.float32)
    step = np.float64(np.float32(1) / np.float32(count - 1))  # fused: one rounding at the end
    i = np.arange(count)
    return np.where(i < count // 2, step * i, 1 - step * (count - 1 - i)).astype(np.float32)


def speak_chunk(
    model: TTSModel, voice: ModelState, ids: list[int], frames_after_eos: int, noise: NoiseSource
) -> Spoken:
    state = model._flow_lm.state_from_voice(voice, 0)
    model._flow_lm.prefill_text(state, ids)
    noise.draw()  # the original draws, and ignores, one for the text
    latent = np.full((1, model.config.latent_dim), np.nan, np.float32)
    latents: list[np.ndarray] = []
    end_step = None
    reached_limit = True
    for step in range(most_frames(model, len(ids))):
        latent, logit = model._flow_lm.step([state], latent, noise.draw()[None])
        if logit[0] > np.float32(model.eos_threshold) and end_step is None and step >= FRAMES_WITHOUT_END:
            end_step = step
        if end_step is not None and step >= end_step + frames_after_eos:
            reached_limit = False
            break
        latents.append(latent)
    codec = model._decoder.new_state()
    audio = np.concatenate([model._decoder.step([codec], [frame])[0] for frame in latents])
    fade = ramp(model.sample_rate // 200)
    audio[: len(fade)] *= fade
    return Spoken(audio, np.concatenate(latents), reached_limit)


def speak(
    model: TTSModel, voice: ModelState, text: str, seed: int, frames_after_eos: int | None = None
) -> list[Spoken]:
    """The chunks of a text, each from the same voice, with one sequence of noise for all."""
    noise = NoiseSource(seed, model.config.latent_dim, model.temp, model.noise_clamp)
    return [
        speak_chunk(
            model,
            voice,
            chunk.token_ids,
            chunk.frames_after_eos if frames_after_eos is None else frames_after_eos,
            noise,
        )
        for chunk in model.split_text(text)
    ]
