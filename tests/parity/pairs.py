"""The original and this package side by side, on one checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pocket_tts import TTSModel as Upstream

from pockettts_fast import TTSModel
from pockettts_fast.testing import synthetic_prompt
from pockettts_fast.voice_state import ModelState

# Both sides round float32 in other orders. A relative error of n roundings is about sqrt(n) * 2**-24; the
# 10**3 to 10**5 roundings behind a value make 110 to 130 dB, of which the free-running loop, which feeds its
# own errors back, may lose some.
STATE_DB = 100.0
AUDIO_DB = 90.0


def snr_db(expected: np.ndarray, ours: np.ndarray) -> float:
    """Energy of the expected values over that of the difference, in decibels."""
    assert expected.shape == ours.shape, (expected.shape, ours.shape)
    expected, ours = expected.astype(np.float64), ours.astype(np.float64)
    assert np.isfinite(ours).all()
    assert np.square(expected).sum() > 0
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(expected - ours).sum(), 1e-300)))


class Pair:
    """Both models from one configuration file with the same arguments."""

    def __init__(self, path: Path, **arguments: Any) -> None:
        self.upstream = Upstream.load_model(config=str(path), **arguments)
        self.ours = TTSModel.load_model(config=path, threads=2, **arguments)
        assert self.ours.sample_rate == self.upstream.sample_rate

    def voices(self, seconds: float = 1.5, seed: int = 3) -> tuple[Any, ModelState]:
        """The voice of one synthetic recording in both, checked against each other."""
        prompt = synthetic_prompt(seconds, self.ours.sample_rate, seed)
        theirs = self.upstream.get_state_for_audio_prompt(torch.from_numpy(prompt)[None])
        ours = self.ours.get_state_for_audio_prompt(prompt)
        check_states(theirs, ours)
        return theirs, ours

    def check_speech(
        self, voices: tuple[Any, ModelState], text: str, seed: int, least_db: float = AUDIO_DB, **speech: Any
    ) -> np.ndarray:
        """Both speak the same; returns our samples."""
        torch.manual_seed(seed)
        expected = self.upstream.generate_audio(voices[0], text, **speech).numpy()
        ours = self.ours.generate_audio(voices[1], text, seed=seed, **speech)
        decibels = snr_db(expected, ours)
        assert decibels >= least_db, f"{decibels:.1f} dB over {len(ours)} samples"
        return ours


def check_states(theirs: Mapping[str, Any], ours: ModelState, least_db: float = STATE_DB) -> None:
    """Two states of one voice: the same modules, offsets and filled rows."""
    assert set(theirs) == set(ours)
    for module, entries in theirs.items():
        assert set(entries) == set(ours[module])
        offset = int(entries["offset"])
        assert offset == int(ours[module]["offset"][0])
        filled = entries["cache"].numpy()[:, :, :offset]
        assert snr_db(filled, ours[module]["cache"][:, :, :offset]) >= least_db
