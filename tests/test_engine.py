"""The engine's rules with scripted stages: ends, limits, queues, cancellation, errors."""

import gc
import logging
import threading
import time

import numpy as np
import pytest

import scripted_stages as script
from pockettts_fast.engine import _FRAMES_AHEAD
from reference.generation import ramp
from scripted_stages import FADE, FRAME, NO, THRESHOLD, YES, own_threads, wait_until


@pytest.fixture(autouse=True)
def _no_thread_survives():
    assert own_threads() == []
    yield
    gc.collect()
    assert wait_until(lambda: own_threads() == []), own_threads()


def count_frames(logits, **more) -> int:
    stream = script.stream(script.FlowLM(logits), **more)
    samples = sum(len(chunk) for chunk in stream)
    assert samples % FRAME == 0
    assert stream.report.frames == samples // FRAME
    return samples // FRAME


# --- the end of speech (15) and the limit (16) -----------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 2, 5])
@pytest.mark.parametrize("at", [6, 7, 20])
def test_15_speech_goes_on_for_the_frames_after_eos_and_ends_before_the_next(at, after):
    assert count_frames([NO] * at + [YES], frames_after_eos=after) == at + after


@pytest.mark.parametrize("at", range(6))
def test_15_the_end_is_ignored_on_the_first_six_frames(at):
    assert count_frames([NO] * at + [YES] + [NO]) == 60
    assert count_frames([YES] * (at + 1) + [NO]) == 60


def test_15_an_end_that_lasts_from_the_first_frames_counts_from_the_seventh():
    assert count_frames([YES], frames_after_eos=2) == 6 + 2


def test_15_one_frame_above_the_threshold_is_enough():
    assert count_frames([NO] * 9 + [YES] + [NO], frames_after_eos=4) == 13


def test_15_the_first_crossing_decides():
    assert count_frames([NO] * 9 + [YES, NO, YES], frames_after_eos=4) == 13


def test_15_the_threshold_itself_is_no_end():
    assert count_frames([THRESHOLD]) == 60
    above = float(np.nextafter(np.float32(THRESHOLD), np.float32(0)))
    assert count_frames([above], frames_after_eos=0) == 6


def test_15_a_threshold_is_compared_as_float32(monkeypatch):
    # -0.1 is no float32: both sides have to be rounded alike.
    monkeypatch.setattr(script, "THRESHOLD", -0.1)
    assert count_frames([-0.1]) == 60


def test_15_nan_is_no_end():
    assert count_frames([float("nan")]) == 60


@pytest.mark.parametrize("logits", [[NO], [NO] * 58 + [YES]])
def test_16_reaching_the_limit_is_reported(logits, caplog):
    stream = script.stream(script.FlowLM(logits), frames_after_eos=5)
    with caplog.at_level(logging.WARNING, "pockettts_fast"):
        assert sum(map(len, stream)) == 60 * FRAME
    assert stream.report.reached_limit
    assert any("60 frames" in message for message in caplog.messages)


def test_16_an_end_in_time_is_not_reported(caplog):
    stream = script.stream(script.FlowLM([NO] * 9 + [YES]))
    with caplog.at_level(logging.WARNING, "pockettts_fast"):
        list(stream)
    assert not stream.report.reached_limit
    assert caplog.messages == []


# --- what is fed, drawn, decoded (10, 13, 18) ------------------------------------------------------------


def test_10_the_first_latent_is_nan_and_each_next_one_the_last_output():
    flow_lm = script.FlowLM([NO] * 8 + [YES], [NO] * 7 + [YES])
    list(script.stream(flow_lm))
    fed = np.concatenate(flow_lm.fed)
    starts = np.isnan(fed).any(axis=1)
    assert np.flatnonzero(starts).tolist() == [0, 8 + 2 + 1]
    np.testing.assert_array_equal(fed[1:4], [[0, 0], [0, 1], [0, 2]])


def test_13_one_draw_for_each_text_is_thrown_away_and_one_for_each_step_used():
    flow_lm = script.FlowLM([NO] * 8 + [YES], [NO] * 7 + [YES])
    noise = script.Noise()
    list(script.stream(flow_lm, noise=noise))
    # The step that finds the end after the last frame draws too.
    assert [int(row[0, 0]) for row in flow_lm.noise] == [*range(2, 13), *range(14, 24)]
    assert noise.draws == 23


def test_18_every_chunk_has_a_codec_state_and_a_fade_of_its_own():
    flow_lm, decoder = script.FlowLM(*[[NO] * 9 + [YES]] * 3), script.Decoder()
    audio = np.concatenate(list(script.stream(flow_lm, decoder))).reshape(3, -1)
    for part in range(3):
        latents = np.concatenate([latents for state, latents in decoder.calls if latents[0, 0] == part])
        np.testing.assert_array_equal(latents[:, 1], np.arange(11))
        assert len({state for state, latents in decoder.calls if latents[0, 0] == part}) == 1
        expected = np.repeat(1 + part + np.arange(11, dtype=np.float32) / 1000, FRAME).astype(np.float32)
        expected[:FADE] *= ramp(FADE)
        np.testing.assert_array_equal(audio[part], expected)
    assert len({state for state, _ in decoder.calls}) == 3


def test_18_frames_of_two_chunks_never_share_a_call():
    decoder = script.Decoder(delay=0.01)
    list(script.stream(script.FlowLM(*[[YES]] * 6), decoder))
    for _, latents in decoder.calls:
        assert len(set(latents[:, 0])) == 1


def test_a_part_is_closed_with_its_state_also_when_it_is_cancelled():
    closed = []
    stream = script.stream(script.FlowLM([NO], [NO]), close_state=closed.append)
    next(stream)
    stream.close()
    assert len(closed) == 1
    list(script.stream(script.FlowLM([NO], [NO]), close_state=closed.append))
    assert [state.step for state in closed[1:]] == [60, 60]


# --- the stream ------------------------------------------------------------------------------------------


def test_the_first_chunk_is_one_frame_even_if_many_wait():
    for _ in range(20):
        stream = script.stream(script.FlowLM([NO]), script.Decoder(delay=0.002))
        sizes = [len(chunk) for chunk in stream]
        assert sizes[0] == FRAME
        assert max(sizes) <= 8 * FRAME
        assert sum(sizes) == 60 * FRAME


def test_nothing_is_computed_before_the_first_next():
    flow_lm = script.FlowLM([NO])
    stream = script.stream(flow_lm)
    time.sleep(0.02)
    assert flow_lm.texts == []
    assert own_threads() == []
    stream.close()
    assert list(stream) == []
    assert flow_lm.texts == []


def test_the_report_is_filled():
    stream = script.stream(script.FlowLM([NO] * 9 + [YES], [NO]))
    samples = sum(map(len, stream))
    report = stream.report
    assert (report.seed, report.chunks, report.frames) == (7, 2, 11 + 60)
    assert report.samples == samples == 71 * FRAME
    assert 0 < report.first_audio_s <= report.elapsed_s
    assert report.lm_s > 0
    assert report.codec_s > 0


def test_a_stream_that_has_ended_stays_so():
    stream = script.stream(script.FlowLM([YES]))
    list(stream)
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(stream)
    stream.close()
    stream.close()


def test_a_consumer_that_does_not_read_stops_the_work():
    flow_lm = script.FlowLM([NO])
    stream = script.stream(flow_lm, max_frames=3 * _FRAMES_AHEAD)
    next(stream)
    assert wait_until(lambda: len(flow_lm.fed) >= _FRAMES_AHEAD)
    time.sleep(0.1)
    assert len(flow_lm.fed) <= _FRAMES_AHEAD + 20
    assert 1 + sum(len(chunk) // FRAME for chunk in stream) == 3 * _FRAMES_AHEAD


def test_a_full_queue_can_be_closed():
    stream = script.stream(script.FlowLM([NO]), max_frames=3 * _FRAMES_AHEAD)
    next(stream)
    time.sleep(0.05)
    begun = time.monotonic()
    stream.close()
    assert time.monotonic() - begun < 1.0


# --- cancellation ----------------------------------------------------------------------------------------


def slow() -> script.FlowLM:
    return script.FlowLM([NO], delay=0.005)


def test_a_stop_before_the_start_gives_nothing():
    stop = threading.Event()
    stop.set()
    flow_lm = slow()
    assert list(script.stream(flow_lm, stop=stop)) == []
    assert flow_lm.fed == []


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8])
def test_a_stop_ends_the_stream_quietly_at_any_frame(at):
    stop = threading.Event()
    flow_lm = slow()
    chunks = []
    for chunk in script.stream(flow_lm, stop=stop):
        chunks.append(chunk)
        if len(chunks) == at:
            stop.set()
    assert len(chunks) == at
    assert own_threads() == []
    assert len(flow_lm.fed) < 60


def test_a_stop_wakes_a_consumer_that_waits():
    stop = threading.Event()
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    begun = time.monotonic()
    assert list(script.stream(script.FlowLM([NO], delay=0.2), stop=stop)) == []
    assert time.monotonic() - begun < 1.0
    timer.join()


def test_closing_ends_the_threads_before_it_returns():
    stream = script.stream(slow())
    next(stream)
    assert len(own_threads()) == 2
    stream.close()
    assert own_threads() == []
    assert list(stream) == []


def test_dropping_the_stream_ends_the_threads():
    stream = script.stream(slow())
    next(stream)
    del stream
    assert wait_until(lambda: own_threads() == [])


def test_a_stream_in_a_cycle_is_collected():
    stream = script.stream(slow())
    next(stream)
    cycle = {"stream": stream}
    cycle["self"] = cycle
    del stream, cycle
    gc.collect()
    assert wait_until(lambda: own_threads() == [])


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("delay", [0.0, 0.001])
def test_a_stream_may_be_collected_by_its_own_threads(delay, wrapped):
    """While the consumer's thread sleeps, the collector runs in the others, also where they hold the lock."""

    def around(stream):
        yield from stream

    thresholds = gc.get_threshold()
    try:
        for _ in range(10):
            gc.disable()
            stream = script.stream(script.FlowLM([NO], delay=delay), max_frames=100_000)
            stream = around(stream) if wrapped else stream
            next(stream)
            cycle = [stream]
            cycle.append(cycle)
            del stream, cycle
            gc.set_threshold(1, 1, 1)
            gc.enable()
            time.sleep(0.05)
            gc.disable()
            assert wait_until(lambda: own_threads() == [])
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()


def test_a_consumer_that_raises_ends_the_threads():
    def consume():
        for _ in script.stream(slow()):
            raise KeyError("of the consumer")

    with pytest.raises(KeyError, match="of the consumer"):
        consume()
    gc.collect()
    assert wait_until(lambda: own_threads() == [])


def test_an_exception_thrown_in_comes_out_and_ends_the_threads():
    stream = script.stream(slow())
    next(stream)
    with pytest.raises(KeyError, match="thrown"):
        stream.throw(KeyError("thrown"))
    assert own_threads() == []
    stream = script.stream(slow())
    with pytest.raises(KeyError):
        stream.throw(KeyError)


def test_a_generator_around_the_stream_closes_it():
    def around():
        yield from script.stream(slow())

    generator = around()
    next(generator)
    generator.close()
    assert own_threads() == []


# --- errors ----------------------------------------------------------------------------------------------


def broken_state():
    raise MemoryError("no room")


@pytest.mark.parametrize(
    ("error", "flow_lm", "decoder", "more"),
    [
        (FloatingPointError, script.FlowLM([NO], fail_at=0), None, {}),
        (FloatingPointError, script.FlowLM([NO], fail_at=17), None, {}),
        (FloatingPointError, script.FlowLM([NO]), script.Decoder(fail_at=0), {}),
        (FloatingPointError, script.FlowLM([NO]), script.Decoder(fail_at=2), {}),
        (MemoryError, script.FlowLM([NO]), None, {"open_state": broken_state}),
    ],
)
def test_an_error_in_a_thread_is_raised_to_the_consumer(error, flow_lm, decoder, more):
    stream = script.stream(flow_lm, decoder, **more)
    with pytest.raises(error):
        list(stream)
    assert own_threads() == []
    assert list(stream) == []


def test_a_thread_that_cannot_start_leaves_no_other_one(monkeypatch):
    start = threading.Thread.start

    def fail_for_the_codec(thread):
        if thread.name == "pockettts-codec":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_for_the_codec)
    stream = script.stream(slow())
    with pytest.raises(RuntimeError, match="start new thread"):
        next(stream)
    assert own_threads() == []
