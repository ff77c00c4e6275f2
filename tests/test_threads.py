"""One answer whatever computes it: instruction sets, numbers of threads, and callers at the same time."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from pockettts_fast import _core

# Run under another instruction set, which is chosen once a process.
_SCRIPT = """
import sys
import numpy as np
import tiny_models
from pockettts_fast import _core

assert _core.active_isa() == sys.argv[1], _core.active_isa()
rng = np.random.default_rng(5)
out = {}
for name in sys.argv[3:]:
    model = tiny_models.named(name, steps=2, threads=2)
    given = tiny_models.inputs(model, rng, prompt=40, ids=61, frames=8)
    state = tiny_models.start(model, given)
    out[f"{name}/latents"], out[f"{name}/end"] = tiny_models.speak(model, state, given)
    out[f"{name}/cache"] = state.caches()[-1]
    latents = given.noise
    out[f"{name}/pcm"] = model.decoder.step([model.decoder.new_state()], [latents])[0]
    pcm = 0.1 * rng.standard_normal(9 * model.config.mimi.frame_size + 5).astype(np.float32)
    out[f"{name}/encoded"] = model.encoder.encode(pcm)
np.savez(sys.argv[2], **out)
"""
_MODELS = ("plain", "grouped", "projected", "separate_decoder", "deep_codec", "codec_projections")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    """By instruction set that runs here, what the models computed with it."""
    folder = tmp_path_factory.mktemp("isas")
    running = {}
    for isa in _core.available_isas():
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "POCKETTTS_FAST_ISA": isa,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        command = [sys.executable, "-c", _SCRIPT, isa, str(folder / f"{isa}.npz"), *_MODELS]
        running[isa] = subprocess.Popen(command, env=environment, cwd=folder)
    assert {isa: process.wait(timeout=120) for isa, process in running.items()} == dict.fromkeys(running, 0)
    return {isa: dict(np.load(folder / f"{isa}.npz")) for isa in running}


def test_the_vector_sets_give_the_same_bits(results, vector_isas):
    first, *others = vector_isas
    for other in others:
        for name, values in results[first].items():
            np.testing.assert_array_equal(values, results[other][name], err_msg=f"{name} on {other}")


def test_the_scalar_set_differs_by_rounding_only(results):
    """Both sides are float32 evaluations of one formula; tests/stages bounds the distance of each to float64.

    There the error of the tiny networks is below 1e-4 of the values, so two of them differ by twice that.
    """
    if len(results) < 2:
        pytest.skip("only one instruction set runs here")
    best = list(results)[-1]
    assert "scalar" in results
    for name, values in results["scalar"].items():
        scale = np.sqrt(np.mean(np.square(values)))
        assert np.sqrt(np.mean(np.square(values - results[best][name]))) <= 2e-4 * scale, name


def test_an_instruction_set_that_does_not_exist_is_a_sentence():
    code = (
        "from pockettts_fast import TTSModel\n"
        "from pockettts_fast.errors import ConfigError\n"
        "try:\n    TTSModel.load_model('demo')\nexcept ConfigError as err:\n    print(err)"
    )
    environment = os.environ | {"POCKETTTS_FAST_ISA": "mmx"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert "mmx" in done.stdout
    assert "scalar" in done.stdout


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_callers_at_the_same_time_get_the_bits_of_one_after_the_other(threads, rng):
    model = tiny_models.named("grouped", threads=threads)
    given = [tiny_models.inputs(model, rng, prompt=30, ids=40, frames=15) for _ in range(8)]

    def one(inputs):
        latents, end = tiny_models.speak(model, tiny_models.start(model, inputs), inputs)
        return latents, end, model.decoder.step([model.decoder.new_state()], [latents])[0]

    serial = [one(inputs) for inputs in given]
    parallel = [None] * 8

    def work(i):
        parallel[i] = one(given[i])

    callers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for alone, together in zip(serial, parallel, strict=True):
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_pool_has_at_least_one_thread():
    assert _core.Pool(1).threads == 1
    assert _core.usable_cores() >= 1
    for threads in (0, -1, 10_000):
        with pytest.raises(ValueError, match="threads"):
            _core.Pool(threads)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity masks")
def test_the_usable_cores_follow_the_affinity_mask():
    code = (
        "import os; core = min(os.sched_getaffinity(0)); os.sched_setaffinity(0, {core})\n"
        "from pockettts_fast import _core, TTSModel\n"
        "print(_core.usable_cores(), TTSModel.load_model('demo').threads)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "1"]
