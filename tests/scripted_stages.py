"""Stages that follow a script instead of weights, to test the engine's rules alone."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pockettts_fast import engine

FRAME = 10  # samples
FADE = 4
THRESHOLD = -4.0
NO, YES = -5.0, -3.0  # logits on both sides of the threshold


class State:
    """What a part speaks with; knows its part and where it is."""

    def __init__(self, part: int) -> None:
        self.part = part
        self.step = 0


class FlowLM:
    """Gives latent [part, step] and the logit of the script; remembers what it was fed."""

    latent_dim = 2

    def __init__(self, *scripts: Sequence[float], delay: float = 0.0, fail_at: int | None = None) -> None:
        self.scripts = scripts
        self.fed: list[np.ndarray] = []
        self.noise: list[np.ndarray] = []
        self.texts: list[Sequence[int]] = []
        self._delay = delay
        self._fail_at = fail_at

    def prefill_text(self, state: State, ids: Sequence[int]) -> None:
        self.texts.append(ids)

    def step(self, states: Sequence[State], latents: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(self._delay)
        (state,) = states
        if state.step == self._fail_at:
            raise FloatingPointError("the script says so")
        self.fed.append(latents.copy())
        self.noise.append(noise.copy())
        script = self.scripts[state.part]
        logit = script[min(state.step, len(script) - 1)]
        latent = np.array([[state.part, state.step]], np.float32)
        state.step += 1
        return latent, np.array([logit], np.float32)


class Decoder:
    """Gives FRAME samples of 1 + part + step / 1000 for each latent; remembers its calls by state."""

    samples_per_frame = FRAME

    def __init__(self, delay: float = 0.0, fail_at: int | None = None) -> None:
        self.calls: list[tuple[int, np.ndarray]] = []
        self.states = 0
        self._delay = delay
        self._fail_at = fail_at

    def new_state(self) -> int:
        self.states += 1
        return self.states

    def step(self, states: list[int], latents: list[np.ndarray]) -> list[np.ndarray]:
        time.sleep(self._delay)
        if len(self.calls) == self._fail_at:
            raise FloatingPointError("the script says so")
        self.calls.append((states[0], latents[0].copy()))
        values = 1 + latents[0][:, 0] + latents[0][:, 1] / 1000
        return [np.repeat(values, FRAME).astype(np.float32)]


class Noise:
    """Counts: draw n is [n, n]."""

    def __init__(self) -> None:
        self.draws = 0

    def draw(self) -> np.ndarray:
        self.draws += 1
        return np.full(2, self.draws, np.float32)

    def discard(self) -> None:
        self.draw()


def parts(count: int = 1, max_frames: int = 60, frames_after_eos: int = 2, **more: Any) -> list[engine.Part]:
    return [
        engine.Part(
            token_ids=[part],
            frames_after_eos=frames_after_eos,
            max_frames=max_frames,
            open_state=more.get("open_state", lambda part=part: State(part)),
            close_state=more.get("close_state"),
        )
        for part in range(count)
    ]


def stream(
    flow_lm: FlowLM,
    decoder: Decoder | None = None,
    noise: Noise | None = None,
    stop: threading.Event | None = None,
    **more: Any,
) -> engine.AudioStream:
    scripted: Any = flow_lm
    return engine.stream_audio(
        scripted,
        decoder or Decoder(),  # type: ignore[arg-type]
        parts(len(flow_lm.scripts), **more),
        noise or Noise(),  # type: ignore[arg-type]
        eos_threshold=THRESHOLD,
        fade_samples=FADE,
        frame_s=0.08,
        stop=stop,
        seed=7,
    )


def own_threads() -> list[threading.Thread]:
    """The threads of generations that are still alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("pockettts-")]


def wait_until(condition: Callable[[], bool], seconds: float = 1.0) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
