"""Stage by stage with the same inputs (teacher forcing): no error of one step reaches the next."""

import numpy as np
import pytest

import tiny_models
from pockettts_fast.testing import synthetic_prompt

torch = pytest.importorskip("torch")
pytest.importorskip("pocket_tts")
from pocket_tts.modules.stateful_module import increment_steps, init_states  # noqa: E402

from parity.pairs import Pair, snr_db  # noqa: E402  (needs the original)

pytestmark = pytest.mark.parity

STAGE_DB = 100.0


def upstream_steps(both: Pair, voice, ids, latents: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The original's latents and end logits for given latents, with the noise of a seed."""
    model = both.upstream
    logits: list[np.ndarray] = []
    hook = model.flow_lm.out_eos.register_forward_hook(lambda *args: logits.append(args[2].numpy().copy()))
    torch.manual_seed(seed)
    out = []
    try:
        with torch.no_grad():
            model._expand_kv_cache(voice, sequence_length=len(ids) + len(latents) + 200)
            model._run_flow_lm_and_increment_step(model_state=voice, text_tokens=torch.tensor([ids]))
            logits.clear()
            for latent in latents:
                given = torch.from_numpy(latent)[None, None]
                out.append(model._run_flow_lm_and_increment_step(model_state=voice, backbone_input_latents=given)[0])
    finally:
        hook.remove()
    return torch.cat(out)[:, 0].numpy(), np.concatenate(logits)[:, 0]


def our_steps(both: Pair, voice, ids, latents: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from pockettts_fast.sampling import NoiseSource

    model = both.ours
    noise = NoiseSource(seed, model.config.latent_dim, model.temp, model.noise_clamp)
    state = model._flow_lm.state_from_voice(voice, 0)
    model._flow_lm.prefill_text(state, ids)
    noise.discard()
    out = [model._flow_lm.step([state], latent[None], noise.draw()[None]) for latent in latents]
    return np.concatenate([latent for latent, _ in out]), np.concatenate([end for _, end in out])


def check_language_model(both: Pair, rng: np.random.Generator, frames: int, ids: int = 40) -> None:
    theirs, ours = both.voices()
    latents = rng.standard_normal((frames, both.ours.config.latent_dim)).astype(np.float32)
    latents[0] = np.nan
    tokens = [int(i) for i in rng.integers(0, both.ours.config.flow_lm.lookup_table.n_bins, ids)]
    expected = upstream_steps(both, theirs, tokens, latents, seed=1)
    for one, other in zip(expected, our_steps(both, ours, tokens, latents, seed=1), strict=True):
        assert snr_db(one, other) >= STAGE_DB


def check_decoder(both: Pair, rng: np.random.Generator, frames: int) -> None:
    """One frame a call on both sides; every frame, so also those where the window begins to slide."""
    model, mimi = both.upstream, both.upstream.mimi
    latents = rng.standard_normal((frames, both.ours.config.latent_dim)).astype(np.float32)
    rows = int(mimi.encoder_frame_rate / mimi.frame_rate)
    state = init_states(mimi, batch_size=1, sequence_length=frames * rows)
    our_state = both.ours._decoder.new_state()
    for frame in range(frames):
        with torch.no_grad():
            given = torch.from_numpy(latents[frame : frame + 1])[None]
            given = given * model.flow_lm.emb_std + model.flow_lm.emb_mean
            expected = mimi.decode_from_latent(given, state)[0, 0].numpy()
            increment_steps(mimi, state, increment=rows)
        ours = both.ours._decoder.step([our_state], [latents[frame : frame + 1]])[0]
        assert snr_db(expected, ours) >= STAGE_DB, f"frame {frame}"


def check_encoder(both: Pair, seconds: float) -> None:
    rate = both.ours.sample_rate
    pcm = synthetic_prompt(seconds, rate, 1)
    with torch.no_grad():
        expected = both.upstream.mimi.encode_to_latent(torch.from_numpy(pcm)[None, None])[0].numpy()
    from pockettts_fast.mimi import MimiEncoder
    from pockettts_fast.weights import load_tensors

    with load_tensors(both.ours.config) as weights:
        encoder = MimiEncoder(both.ours.config, weights, both.ours._pool)
    assert snr_db(expected, encoder.encode(pcm)) >= STAGE_DB


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_the_language_model(name, pair, rng):
    check_language_model(pair(name), rng, frames=150)


@pytest.mark.parametrize("steps", [2, 7])
@pytest.mark.parametrize("flow_type", tiny_models.FLOW_TYPES)
def test_the_steps_of_the_flow_head(flow_type, steps, pair, rng):
    check_language_model(pair(flow_type=flow_type, arguments={"sampler_decode_steps": steps}), rng, frames=20)


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_the_decoder(name, pair, rng):
    check_decoder(pair(name), rng, frames=60)


@pytest.mark.parametrize("name", tiny_models.NAMES)
def test_the_encoder(name, pair):
    check_encoder(pair(name), seconds=20.3)


@pytest.mark.parametrize("language", ["english_2m_2026-10", "english_18m_2026-10", "english"])
def test_released_architectures_at_full_size(language, tmp_path, rng):
    from pockettts_fast.testing import write_checkpoint

    both = Pair(write_checkpoint(tmp_path, language, 2))
    frames = 24 if language == "english" else 45
    check_language_model(both, rng, frames)
    check_decoder(both, rng, frames)
    check_encoder(both, seconds=2.0)
