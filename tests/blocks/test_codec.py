"""The promises of the codec blocks: splits, batches, threads and copies change no bit."""

import threading

import numpy as np
import pytest

import tiny_models
from pockettts_fast import _core
from reference.chunks import cut, random_split

NAMES = tuple(name for name in tiny_models.NAMES if name not in ("flow_matching", "drifting", "grouped"))
FRAMES = 45  # the windows of 10, 20 and 40 rows (16 rows a frame) and of 250 all slide


def decode(model: tiny_models.TinyModel, latents: np.ndarray) -> np.ndarray:
    return model.decoder.step([model.decoder.new_state()], [latents])[0]


def frames(model: tiny_models.TinyModel, rng: np.random.Generator, count: int = FRAMES) -> np.ndarray:
    return rng.standard_normal((count, model.config.latent_dim)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_any_split_of_frames_gives_the_same_samples(name, rng):
    model = tiny_models.named(name)
    latents = frames(model, rng)
    whole = decode(model, latents)
    for sizes in (
        [1] * FRAMES,
        random_split(rng, FRAMES),
        random_split(rng, FRAMES),
        [FRAMES - 1, 1],
        [0, FRAMES],
    ):
        state = model.decoder.new_state()
        parts = [model.decoder.step([state], [part])[0] for part in cut(latents, sizes)]
        assert [len(part) for part in parts] == [n * model.decoder.samples_per_frame for n in sizes]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", NAMES)
def test_any_split_of_a_prompt_gives_the_same_latents(name, rng):
    model = tiny_models.named(name)
    stage = model.encoder._stage
    pcm = (0.1 * rng.standard_normal((FRAMES, stage.samples_per_latent))).astype(np.float32)
    whole = stage.step([stage.new_state()], [pcm])[0]
    for sizes in ([1] * FRAMES, random_split(rng, FRAMES), [FRAMES - 1, 1]):
        state = stage.new_state()
        parts = [stage.step([state], [part])[0] for part in cut(pcm, sizes)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_in_a_ragged_batch_has_the_samples_of_a_stream_alone(name, rng):
    model = tiny_models.named(name)
    latents = [frames(model, rng, 30) for _ in range(5)]
    alone = [decode(model, one) for one in latents]
    states = [model.decoder.new_state() for _ in latents]
    at, spoken = [0] * 5, [[] for _ in latents]
    while min(at) < 30:
        members = [int(i) for i in rng.permutation(5) if rng.random() < 0.7]
        counts = [min(int(rng.integers(0, 9)), 30 - at[i]) for i in members]
        audio = model.decoder.step(
            [states[i] for i in members],
            [latents[i][at[i] : at[i] + n] for i, n in zip(members, counts, strict=True)],
        )
        for i, n, samples in zip(members, counts, audio, strict=True):
            at[i] += n
            spoken[i].append(samples)
    for one, parts in zip(alone, spoken, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), one)


@pytest.mark.parametrize("name", ["plain", "separate_decoder", "deep_codec", "grouped_upsampling"])
def test_prompts_encoded_in_a_ragged_batch_have_the_bits_of_prompts_alone(name, rng):
    stage = tiny_models.named(name).encoder._stage
    prompts = [(0.1 * rng.standard_normal((n, stage.samples_per_latent))).astype(np.float32) for n in (1, 7, 20, 3)]
    alone = [stage.step([stage.new_state()], [one])[0] for one in prompts]
    together = stage.step([stage.new_state() for _ in prompts], prompts)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_no_bit(name, threads, rng):
    one, many = tiny_models.named(name), tiny_models.named(name, threads=threads)
    latents = frames(one, rng, 60)
    np.testing.assert_array_equal(decode(one, latents), decode(many, latents))
    pcm = (0.1 * rng.standard_normal(60 * one.config.mimi.frame_size)).astype(np.float32)
    np.testing.assert_array_equal(one.encoder.encode(pcm), many.encoder.encode(pcm))


def test_a_copy_is_independent_of_its_original(rng):
    model = tiny_models.named("deep_codec")
    latents, other = frames(model, rng), frames(model, rng)
    whole = decode(model, latents)
    state = model.decoder.new_state()
    first = model.decoder.step([state], [latents[:20]])[0]
    copy = state.copy()
    model.decoder.step([copy], [other])
    again = state.copy()
    for continued in (state, again):
        rest = model.decoder.step([continued], [latents[20:]])[0]
        np.testing.assert_array_equal(np.concatenate([first, rest]), whole)


def test_a_state_used_by_two_threads_at_once_is_refused(rng):
    model = tiny_models.named("plain", threads=2)
    latents = frames(model, rng, 400)
    state = model.decoder.new_state()
    refused = []

    def work():
        try:
            model.decoder.step([state], [latents])
        except RuntimeError as err:
            refused.append(str(err))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused
    assert all("already in use" in message for message in refused)
    with pytest.raises(RuntimeError, match="already in use"):
        model.decoder.step([state, state], [latents, latents])
    model.decoder.step([state], [latents[:1]])  # it is free again


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((2, 31), np.float32), "32 wide"),
        (np.zeros(32, np.float32), "2 dimensions"),
        (np.zeros((2, 32)), "contiguous float32"),
        (np.zeros((32, 2), np.float32).T, "contiguous float32"),
    ],
)
def test_a_wrong_argument_is_named(latents, message):
    model = tiny_models.named("plain")
    with pytest.raises(ValueError, match=message):
        model.decoder.step([model.decoder.new_state()], [latents])
    with pytest.raises(ValueError, match="1 states and 0 inputs"):
        model.decoder.step([model.decoder.new_state()], [])


def test_no_frames_give_no_samples():
    model = tiny_models.named("plain")
    assert decode(model, np.zeros((0, 32), np.float32)).shape == (0,)
    assert model.decoder.step([], []) == []


@pytest.mark.parametrize("name", ["plain", "separate_decoder", "wide_window"])
def test_a_steady_stream_allocates_no_scratch(name, rng):
    model = tiny_models.named(name)
    latents = frames(model, rng, 150)

    def stream():
        state = model.decoder.new_state()
        for i in range(len(latents)):
            model.decoder.step([state], [latents[i : i + 1]])

    stream()
    before = _core.scratch_allocations()
    stream()
    assert _core.scratch_allocations() == before


def test_thousands_of_frames_stay_exact(rng):
    """Every window has slid many times over by then."""
    model = tiny_models.named("deep_codec")
    latents = frames(model, rng, 2000)
    state = model.decoder.new_state()
    parts = [model.decoder.step([state], [part])[0] for part in cut(latents, [7] * 285 + [5])]
    np.testing.assert_array_equal(np.concatenate(parts), decode(model, latents))
