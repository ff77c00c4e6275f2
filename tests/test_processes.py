"""Real models under real conditions: many threads, forks, the end of the process, long use."""

import gc
import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from pockettts_fast.errors import GenerationError
from scripted_stages import own_threads, wait_until

TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it would do so again and again."
LONG = " ".join([TEXT] * 30)  # some minutes of speech: more than is computed ahead of a consumer
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork()")
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system has no /proc")


@pytest.fixture(autouse=True)
def _no_thread_survives():
    yield
    gc.collect()
    assert wait_until(lambda: own_threads() == []), own_threads()


def test_chunks_join_to_the_whole_and_begin_with_one_frame(speakers):
    model, voice = speakers()
    whole = model.generate_audio(voice, TEXT, seed=1)
    for _ in range(5):
        chunks = list(model.generate_audio_stream(voice, TEXT, seed=1))
        assert len(chunks[0]) == 384
        assert all(chunk.dtype == np.float32 and chunk.ndim == 1 for chunk in chunks)
        np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_chunks_belong_to_the_consumer(speakers):
    model, voice = speakers()
    expected = model.generate_audio(voice, TEXT, seed=1)
    kept = []
    for chunk in model.generate_audio_stream(voice, TEXT, seed=1):
        kept.append(chunk.copy())
        chunk[:] = np.nan
    np.testing.assert_array_equal(np.concatenate(kept), expected)


def test_many_threads_on_one_model_and_one_voice_get_the_serial_bits(speakers):
    model, voice = speakers("grouped")
    serial = [model.generate_audio(voice, TEXT, seed=seed) for seed in range(8)]
    together = [None] * 8

    def work(seed):
        together[seed] = model.generate_audio(voice, TEXT, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(serial, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_streams_read_in_turns_get_the_serial_bits(speakers):
    model, voice = speakers()
    serial = [model.generate_audio(voice, TEXT, seed=seed) for seed in range(4)]
    streams = {seed: model.generate_audio_stream(voice, TEXT, seed=seed) for seed in range(4)}
    heard = {seed: [] for seed in streams}
    while streams:
        for seed in list(streams):
            chunk = next(streams[seed], None)
            if chunk is None:
                del streams[seed]
            else:
                heard[seed].append(chunk)
    for seed in range(4):
        np.testing.assert_array_equal(np.concatenate(heard[seed]), serial[seed])


def test_the_voice_is_never_changed(speakers):
    model, voice = speakers()
    before = {module: {kind: v.copy() for kind, v in entries.items()} for module, entries in voice.items()}
    model.generate_audio(voice, LONG[:400], seed=1)
    stream = model.generate_audio_stream(voice, TEXT, seed=1)
    next(stream)
    stream.close()
    assert voice.keys() == before.keys()
    for module, entries in before.items():
        for kind, value in entries.items():
            np.testing.assert_array_equal(voice[module][kind], value)


def test_without_a_copy_the_voice_is_advanced_and_each_chunk_continues(speakers):
    model, voice = speakers("plain", eos_after=8.0)
    text = LONG[:300]
    chunks = model.split_text(text)
    assert len(chunks) > 1
    advanced = {module: dict(entries) for module, entries in voice.items()}
    audio = model.generate_audio(advanced, text, copy_state=False, seed=3)
    offset = int(voice["transformer.layers.0.self_attn"]["offset"][0])
    frames = len(audio) // 384
    # Each chunk feeds its text and one latent a step; a chunk that heard its end took one step more.
    tokens = sum(len(chunk.token_ids) for chunk in chunks)
    now = int(advanced["transformer.layers.0.self_attn"]["offset"][0])
    assert offset + tokens + frames <= now <= offset + tokens + frames + len(chunks)
    cache = advanced["transformer.layers.1.self_attn"]["cache"]
    assert cache.shape[2] == now
    np.testing.assert_array_equal(cache[:, :, :offset], voice["transformer.layers.1.self_attn"]["cache"])
    assert not np.array_equal(audio, model.generate_audio(voice, text, seed=3))
    again = model.generate_audio(advanced, "One more.", seed=3)
    assert np.isfinite(again).all()


def test_dropping_a_stream_of_a_real_model_ends_it_within_a_second(speakers):
    model, voice = speakers()
    for end in ("drop", "close", "stop"):
        stop = threading.Event()
        stream = model.generate_audio_stream(voice, LONG, stop=stop, seed=1)
        next(stream)
        assert len(own_threads()) == 2
        if end == "stop":
            stop.set()
            assert list(stream) == []
        elif end == "close":
            stream.close()
        else:
            del stream
        assert wait_until(lambda: own_threads() == [])


def test_a_model_that_is_dropped_while_it_speaks_still_speaks(checkpoints, speakers):
    from pockettts_fast import TTSModel

    voice = speakers()[1]
    model = TTSModel.load_model(config=checkpoints())
    expected = model.generate_audio(voice, TEXT, seed=1)
    stream = model.generate_audio_stream(voice, TEXT, seed=1)
    del model
    gc.collect()
    np.testing.assert_array_equal(np.concatenate(list(stream)), expected)


# --- fork and exit ---------------------------------------------------------------------------------------


def in_child(task) -> None:
    """Runs `task` in a forked child, which has to succeed within 30 s."""
    with warnings.catch_warnings():
        # From Python 3.12 on: forking beside threads is the point here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            task()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended = []
    assert wait_until(lambda: bool(ended or (ended.extend([s]) if (s := os.waitpid(pid, os.WNOHANG))[0] else 0)), 30)
    assert os.waitstatus_to_exitcode(ended[0][1]) == 0


@needs_fork
def test_a_forked_child_can_speak(speakers):
    model, voice = speakers()
    expected = model.generate_audio(voice, TEXT, seed=1)
    busy = model.generate_audio_stream(voice, LONG, seed=2)
    next(busy)

    def speak():
        np.testing.assert_array_equal(model.generate_audio(voice, TEXT, seed=1), expected)

    in_child(speak)
    busy.close()
    np.testing.assert_array_equal(model.generate_audio(voice, TEXT, seed=1), expected)


@needs_fork
def test_a_stream_from_before_a_fork_is_an_error_in_the_child_and_goes_on_in_the_parent(speakers):
    model, voice = speakers()
    expected = model.generate_audio(voice, TEXT, seed=1)
    stream = model.generate_audio_stream(voice, TEXT, seed=1)
    first = next(stream)

    def use():
        with pytest.raises(GenerationError, match="fork"):
            next(stream)
        assert list(stream) == []
        stream.close()

    in_child(use)
    np.testing.assert_array_equal(np.concatenate([first, *stream]), expected)


_EXIT_SCRIPT = """
import sys, threading
from pockettts_fast import TTSModel
model = TTSModel.load_model("demo")
voice = model.get_state_for_audio_prompt("demo")
text = " ".join(["Nobody knows why the quick brown fox would jump over the lazy dog again and again."] * 60)
stream = model.generate_audio_stream(voice, text, seed=1)
print(len(next(stream)), flush=True)
"""
_ENDINGS = {
    "the script ends": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("raise KeyError", 1),
    "a daemon reads on": ("threading.Thread(target=lambda: list(stream), daemon=True).start()", 0),
    "in a cycle": ("cycle = [stream]; cycle.append(cycle); del stream, cycle", 0),
}


@pytest.mark.parametrize("ending", _ENDINGS)
def test_a_process_that_ends_while_it_speaks_ends_at_once(ending):
    code, status = _ENDINGS[ending]
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    process = subprocess.Popen(
        [sys.executable, "-c", _EXIT_SCRIPT + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        assert process.stdout.readline() == "1920\n"
        begun = time.monotonic()
        errors = process.communicate(timeout=30)[1]
        took = time.monotonic() - begun
    assert process.returncode == status, errors
    # A language model that nobody reads from waits with its queue full, for ever if nothing wakes it.
    assert took < 5.0
    if status == 0:
        assert "Traceback" not in errors


_OUTLIVING_SCRIPT = """
import threading
from pockettts_fast import TTSModel
model = TTSModel.load_model("demo")
voice = model.get_state_for_audio_prompt("demo")
text = "Nobody knows why the quick brown fox would jump over the lazy dog again and again. " * 5
whole = model.generate_audio(voice, text, seed=1)
begun = model.generate_audio_stream(voice, text, seed=1)
heard = [len(next(begun))]
def work():
    threading.main_thread().join()
    heard.extend(map(len, begun))
    print(sum(heard) == len(whole), flush=True)
threading.Thread(target=work).start()
"""


def test_a_thread_that_outlives_the_main_thread_hears_everything():
    done = subprocess.run(
        [sys.executable, "-c", _OUTLIVING_SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "True\n"


# --- long use --------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@needs_proc
def test_memory_threads_and_files_stay_flat_over_hundreds_of_requests(speakers):
    model, voice = speakers("plain", eos_after=8.0)

    def requests(count: int) -> None:
        for seed in range(count):
            if seed % 10 == 9:
                stream = model.generate_audio_stream(voice, TEXT, seed=seed)
                next(stream)
                stream.close()
            else:
                model.generate_audio(voice, TEXT, seed=seed)
        gc.collect()

    requests(60)
    memory, threads, files = resident_bytes(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    requests(200)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files
    # One request holds about 1 MB (caches, queues); 200 that leaked a hundredth of it would show.
    assert resident_bytes() - memory < 2 << 20
