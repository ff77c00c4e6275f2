"""The promise of equal bits in the lower precisions: batch-mates, threads and chunks change nothing."""

import numpy as np
import pytest

import precise_models
import tiny_models

NAMES = ("plain", "grouped", "projected", "flow_matching")
CODECS = ("plain", "separate_decoder", "deep_codec", "grouped_upsampling", "replicated")


def utterances(stages: precise_models.Stages, rng: np.random.Generator, count: int) -> list[tiny_models.Inputs]:
    return [tiny_models.inputs(stages, rng, prompt=3 + 2 * i, ids=2 + 3 * i, frames=8) for i in range(count)]


def alone(stages: precise_models.Stages, given: tiny_models.Inputs) -> tuple[np.ndarray, np.ndarray]:
    return tiny_models.speak(stages, tiny_models.start(stages, given), given)


@pytest.mark.parametrize("name", NAMES)
def test_int8_frames_do_not_depend_on_batch_mates(name: str, rng: np.random.Generator) -> None:
    stages = precise_models.named(name, "int8", "float32")
    given = utterances(stages, rng, 5)
    given[2].latents[3] = np.inf  # a stream that went wrong must not touch the others
    states = [tiny_models.start(stages, one) for one in given]
    together = [
        stages.flow_lm.step(
            states,
            np.stack([one.latents[frame] for one in given]),
            np.stack([one.noise[frame] for one in given]),
        )
        for frame in range(8)
    ]
    for i, one in enumerate(given):
        latents, ends = alone(stages, one)
        np.testing.assert_array_equal(np.stack([frame[0][i] for frame in together]), latents)
        np.testing.assert_array_equal(np.stack([frame[1][i] for frame in together]), ends)
        assert np.isfinite(latents).all() == (i != 2)


@pytest.mark.parametrize("name", NAMES)
def test_int8_prefill_equals_single_steps_and_any_number_of_threads(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny_models.inputs(precise_models.named(name, "int8", "float32"), rng, prompt=40, ids=40, frames=6)
    expected = alone(precise_models.named(name, "int8", "float32"), given)
    for threads in (2, 3):
        for one, other in zip(
            alone(precise_models.named(name, "int8", "float32", threads), given), expected, strict=True
        ):
            np.testing.assert_array_equal(one, other)
    for rows in (1, 7):
        monkeypatch.setattr("pockettts_fast.flow_lm._PREFILL_ROWS", rows)
        for one, other in zip(alone(precise_models.named(name, "int8", "float32"), given), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", CODECS)
def test_bf16_samples_do_not_depend_on_chunks_threads_and_batch_mates(name: str, rng: np.random.Generator) -> None:
    stages = precise_models.named(name, "float32", "bf16")
    decoder = stages.decoder
    streams = [rng.standard_normal((11, stages.config.latent_dim)).astype(np.float32) for _ in range(4)]
    whole = [decoder.step([decoder.new_state()], [latents])[0] for latents in streams]
    assert np.isfinite(whole).all()

    threaded = precise_models.named(name, "float32", "bf16", 3).decoder
    state = threaded.new_state()
    parts = [threaded.step([state], [part])[0] for part in np.split(streams[0], [1, 2, 5, 9])]
    np.testing.assert_array_equal(np.concatenate(parts), whole[0])

    streams[1][6] = np.nan  # only this stream may hear it
    states, heard = [decoder.new_state() for _ in streams], []
    for start, stop in ((0, 1), (1, 4), (4, 11)):
        heard.append(decoder.step(states, [latents[start:stop] for latents in streams]))
    for i in (0, 2, 3):
        np.testing.assert_array_equal(np.concatenate([part[i] for part in heard]), whole[i])
    assert np.isnan(np.concatenate([part[1] for part in heard])).any()


@pytest.mark.parametrize("name", CODECS)
def test_bf16_is_another_arithmetic_and_close_to_float32(name: str, rng: np.random.Generator) -> None:
    exact = precise_models.named(name, "float32", "float32").decoder
    rounded = precise_models.named(name, "float32", "bf16").decoder
    latents = rng.standard_normal((20, precise_models.named(name, "float32", "bf16").config.latent_dim))
    one, other = (decoder.step([decoder.new_state()], [latents.astype(np.float32)])[0] for decoder in (exact, rounded))
    share = np.sqrt(np.square(other - one).mean() / np.square(one).mean())
    assert 1e-4 < share < 0.05
