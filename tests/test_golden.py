"""Stored results of the original pocket-tts (tools/make_goldens.py), so that no test run needs PyTorch.

Cache and latents are stored as float16 and samples as int16, which allows half a step of these; beyond it
the free-running float32 difference of the two implementations, which is 1e-5 of the values at most (the
live comparison in tests/parity measures it at 1e-6).
"""

import numpy as np
import pytest

import tiny_models
from golden_cases import AUDIO_SCALE, AUDIO_STRIDE, CASES, PROMPT_SECONDS, Case, fingerprint
from pockettts_fast import TTSModel
from pockettts_fast.testing import random_weights, synthetic_prompt, write_checkpoint
from pockettts_fast.voice_state import attention_module
from reference.closeness import rms

HALF = 2.0**-11  # half a step of float16, relatively
FREE_RUNNING = 1e-5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_speech_is_what_the_original_gave(case: Case, tmp_path):
    golden = np.load(case.path)
    document = tiny_models.document(case.name, **case.changes)
    model = TTSModel.load_model(
        config=write_checkpoint(tmp_path, document, case.checkpoint_seed, eos_after=case.eos_after),
        **case.arguments,
    )
    prompt = synthetic_prompt(PROMPT_SECONDS, model.sample_rate, case.checkpoint_seed)
    arrays = random_weights(model.config, case.checkpoint_seed, eos_after=case.eos_after)
    np.testing.assert_allclose(
        fingerprint({**arrays, "prompt": prompt}),
        golden["fingerprint"],
        rtol=1e-6,
        err_msg="pockettts_fast.testing makes other models than when the goldens were stored: if that is "
        "meant, run tools/make_goldens.py again",
    )
    speech = dict(case.speech)
    ids = np.concatenate([c.token_ids for c in model.split_text(case.text, speech.get("max_tokens", 50))])
    np.testing.assert_array_equal(ids, golden["ids"], err_msg="the text became other tokens")

    voice = model.get_state_for_audio_prompt(prompt)
    cache = voice[attention_module(len(voice) - 1)]["cache"]
    check(cache, golden["cache"].astype(np.float32), HALF, 0.0)

    latents = []
    decoder_step = model._decoder.step

    def step(states, frames):
        latents.extend(frames)
        return decoder_step(states, frames)

    model._decoder.step = step
    audio = model.generate_audio(voice, case.text, seed=case.seed, **speech)
    assert len(audio) == golden["samples"]
    check(np.concatenate(latents), golden["latents"].astype(np.float32), HALF, 0.0)
    stored = golden["audio"].astype(np.float32) / AUDIO_SCALE
    check(audio[::AUDIO_STRIDE], stored, 0.0, 0.5 / AUDIO_SCALE)


def check(ours: np.ndarray, stored: np.ndarray, relative: float, absolute: float) -> None:
    """Every value within the stored precision plus the free-running difference."""
    assert ours.shape == stored.shape
    smallest = 2.0**-25  # half a step of float16 near zero
    limit = relative * np.abs(stored) * (1 + 1e-3) + absolute + smallest + FREE_RUNNING * rms(stored)
    worst = np.abs(ours - stored) / limit
    assert worst.max() <= 1.0, f"{worst.max():.2f} times the allowed difference at {worst.argmax()}"


def test_the_goldens_are_small_and_all_in_use():
    files = sorted(CASES[0].path.parent.glob("*"))
    assert files == sorted(case.path for case in CASES)
    assert sum(path.stat().st_size for path in files) < 300_000
