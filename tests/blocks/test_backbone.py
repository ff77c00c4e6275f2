"""The promises of the language-model block: splits, batches, threads and copies change no bit."""

import threading

import numpy as np
import pytest

import tiny_models
from pockettts_fast import _core
from reference.chunks import cut, random_split

NAMES = ("plain", "grouped", "one_kv_head", "projected", "pointwise")


def core(model: tiny_models.TinyModel) -> "_core.Backbone":
    return model.flow_lm._stage


def assert_same_state(one: "_core.BackboneState", other: "_core.BackboneState") -> None:
    assert one.position == other.position
    for a, b in zip(one.caches(), other.caches(), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_same(one, other) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", ["single", "random", "halves"])
def test_a_prefill_in_any_split_gives_the_same_bits(name, sizes, rng):
    model = tiny_models.named(name)
    given = tiny_models.inputs(model, rng, prompt=37, ids=53)
    whole = tiny_models.start(model, given)
    ids = np.array(given.ids, np.int32)
    state = core(model).new_state()
    splits = {
        "single": lambda n: [1] * n,
        "halves": lambda n: [n // 2, n - n // 2],
        "random": lambda n: random_split(rng, n),
    }[sizes]
    with_start = model.config.flow_lm.insert_bos_before_voice
    for i, rows in enumerate(cut(given.prompt, splits(37))):
        core(model).prefill_prompt([state], [rows], with_start and i == 0)
    for part in cut(ids, splits(53)):
        core(model).prefill_text([state], [part])
    assert_same_state(whole, state)
    assert_same(tiny_models.speak(model, whole, given), tiny_models.speak(model, state, given))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("streams", [2, 3, 7, 17])
def test_a_stream_in_a_ragged_batch_has_the_bits_of_a_stream_alone(name, streams, rng):
    model = tiny_models.named(name)
    given = [
        tiny_models.inputs(model, rng, prompt=int(rng.integers(1, 40)), ids=int(rng.integers(1, 40)), frames=6)
        for _ in range(streams)
    ]
    alone_states = [tiny_models.start(model, one) for one in given]
    alone = [tiny_models.speak(model, state, one) for state, one in zip(alone_states, given, strict=True)]

    states = [core(model).new_state() for _ in given]
    with_start = model.config.flow_lm.insert_bos_before_voice
    core(model).prefill_prompt(states, [one.prompt for one in given], with_start)
    core(model).prefill_text(states, [np.array(one.ids, np.int32) for one in given])
    assert len({state.position for state in states}) > 1
    for frame in range(6):
        latents, end = core(model).step(
            states,
            np.stack([one.latents[frame] for one in given]),
            np.stack([one.noise[frame] for one in given]),
        )
        for stream in range(streams):
            np.testing.assert_array_equal(latents[stream], alone[stream][0][frame])
            assert end[stream] == alone[stream][1][frame]
    for one, other in zip(alone_states, states, strict=True):
        assert_same_state(one, other)


def test_a_stream_may_join_and_leave_a_batch_at_any_frame(rng):
    model = tiny_models.named("grouped")
    given = [tiny_models.inputs(model, rng, frames=12) for _ in range(4)]
    alone = [tiny_models.speak(model, tiny_models.start(model, one), one) for one in given]
    states = [tiny_models.start(model, one) for one in given]
    at = [0] * 4
    while min(at) < 12:
        members = [i for i in rng.permutation(4) if at[i] < 12 and rng.random() < 0.6]
        if not members:
            continue
        latents, end = core(model).step(
            [states[i] for i in members],
            np.stack([given[i].latents[at[i]] for i in members]),
            np.stack([given[i].noise[at[i]] for i in members]),
        )
        for row, i in enumerate(members):
            np.testing.assert_array_equal(latents[row], alone[i][0][at[i]])
            assert end[row] == alone[i][1][at[i]]
            at[i] += 1


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_no_bit(name, threads, rng):
    one, many = tiny_models.named(name), tiny_models.named(name, threads=threads)
    given = tiny_models.inputs(one, rng, prompt=150, ids=200, frames=4)
    results = []
    for model in (one, many):
        state = tiny_models.start(model, given)
        results.append((*tiny_models.speak(model, state, given), *state.caches()))
    assert_same(*results)


def test_a_copy_is_independent_of_its_original(rng):
    model = tiny_models.named("plain")
    given = tiny_models.inputs(model, rng)
    other = tiny_models.inputs(model, rng)
    state = tiny_models.start(model, given)
    before = state.caches()
    copy = state.copy()
    tiny_models.speak(model, copy, other)
    assert_same(state.caches(), before)
    expected = tiny_models.speak(model, tiny_models.start(model, given), given)
    assert_same(tiny_models.speak(model, state, given), expected)
    assert copy.position == state.position
    assert not np.array_equal(copy.caches()[0], state.caches()[0])


def test_caches_are_copies(rng):
    model = tiny_models.named("plain")
    state = tiny_models.start(model, tiny_models.inputs(model, rng))
    state.caches()[0][:] = 7
    assert not (state.caches()[0] == 7).any()


def test_room_reserved_in_advance_changes_no_bit(rng):
    model = tiny_models.named("grouped")
    given = tiny_models.inputs(model, rng, frames=40)
    voice = model.flow_lm.to_model_state(tiny_models.start(model, given))
    results = [tiny_models.speak(model, model.flow_lm.state_from_voice(voice, room), given) for room in (0, 7, 500)]
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


def test_a_state_in_two_places_of_one_batch_is_refused(rng):
    model = tiny_models.named("plain")
    given = tiny_models.inputs(model, rng, frames=2)
    state = tiny_models.start(model, given)
    position = state.position
    with pytest.raises(RuntimeError, match="already in use"):
        core(model).step([state, state], given.latents, given.noise)
    assert state.position == position
    tiny_models.speak(model, state, given)  # it is free again


def test_a_state_used_by_two_threads_at_once_is_refused(rng):
    model = tiny_models.build(tiny_models.document("plain", d_model=256, num_heads=4, num_layers=8))
    ids = np.zeros(2000, np.int32)
    refused, finished = [], []

    def work(state):
        try:
            core(model).prefill_text([state], [ids])
            finished.append(state)
        except RuntimeError as err:
            refused.append(str(err))

    state = core(model).new_state()
    threads = [threading.Thread(target=work, args=(state,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused
    assert all("already in use" in message for message in refused)
    assert state.position == 2000 * len(finished)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, s, x: c.step([s], x, x[:, :5]), "latents and noise must be"),
        (lambda c, s, x: c.step([s, c.new_state()], x, x), "latents and noise must be"),
        (lambda c, s, x: c.step([s], x.astype(np.float64), x), "contiguous float32"),
        (lambda c, s, x: c.step([s], np.asfortranarray(np.zeros((2, 32), np.float32))[::2], x), "contiguous"),
        (lambda c, s, x: c.step([None], x, x), "None"),
        (lambda c, s, x: c.prefill_text([s], [np.array([601], np.int32)]), "token id 601"),
        (lambda c, s, x: c.prefill_text([s], [np.array([-1], np.int32)]), "token id -1"),
        (lambda c, s, x: c.prefill_text([s], []), "1 states and 0 texts"),
        (lambda c, s, x: c.prefill_prompt([s], [x[:, :7]], True), "contiguous|7 wide"),
        (lambda c, s, x: c.load_state([], 0, 0), "caches"),
        (lambda c, s, x: c.load_state(s.caches(), 10_000, 10_000), "cache must be"),
        (lambda c, s, x: c.load_state(s.caches(), 3, 2), "capacity"),
    ],
)
def test_a_wrong_argument_is_named_and_leaves_the_state_alone(call, message, rng):
    model = tiny_models.named("plain")
    state = tiny_models.start(model, tiny_models.inputs(model, rng))
    position = state.position
    with pytest.raises(ValueError, match=message):
        call(core(model), state, np.zeros((1, 32), np.float32))
    assert state.position == position


def test_an_empty_batch_and_an_empty_text_are_legal():
    model = tiny_models.named("plain")
    latents, end = core(model).step([], np.zeros((0, 32), np.float32), np.zeros((0, 32), np.float32))
    assert latents.shape == (0, 32)
    assert end.shape == (0,)
    state = core(model).new_state()
    core(model).prefill_text([state], [np.zeros(0, np.int32)])
    assert state.position == 0


def test_a_steady_stream_allocates_no_scratch(rng):
    model = tiny_models.named("grouped")
    given = tiny_models.inputs(model, rng, frames=200)
    voice = model.flow_lm.to_model_state(tiny_models.start(model, given))
    tiny_models.speak(model, model.flow_lm.state_from_voice(voice, 200), given)
    before = _core.scratch_allocations()
    tiny_models.speak(model, model.flow_lm.state_from_voice(voice, 200), given)
    assert _core.scratch_allocations() == before


def test_a_long_stream_stays_finite_and_exact_at_every_length(rng):
    """Lengths around the multiples of 16 that the cache grows by, against one prefill of the same rows."""
    model = tiny_models.named("one_kv_head")
    ids = rng.integers(0, 600, 130).astype(np.int32)
    state = core(model).new_state()
    for length in range(1, 131):
        core(model).prefill_text([state], [ids[length - 1 : length]])
        if length % 16 in (0, 1, 15):
            whole = core(model).new_state()
            core(model).prefill_text([whole], [ids[:length]])
            assert_same_state(whole, state)
