"""Guards the hot paths: instructions and allocations per frame and stage against bench/budget.json.

    python tools/instruction_budget.py            measure and print
    python tools/instruction_budget.py --check    and fail when something costs more than it may
    python tools/instruction_budget.py --update   and make what was measured the new budget

Instructions are counted by callgrind (Debian: apt-get install valgrind), so a noisy machine changes nothing;
the same compiler is needed, since another one makes other code. A random `english_2m`, one thread, the AVX2
kernels (valgrind knows no AVX-512). A count is the difference between N and 2 N frames, so that nothing done
once is in it.

Allocations are calls of malloc and its kin in steady state, counted natively. Large ones (512 bytes and more)
hold data: the samples that a codec frame returns and nothing else (the latent and the logit of a step come
from NumPy's own cache). Small ones are the lists of arguments and shapes of one call, the same for any model.
"""

import argparse
import ctypes
import gc
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BUDGET = Path(__file__).resolve().parent.parent / "bench" / "budget.json"
LIBRARY, WEIGHTS = "hooks.so", "weights.npz"
HOOKS = Path(__file__).resolve().parent / "budget_hooks.c"
TOLERANCES = {"instructions": 0.05, "large allocations": 0.0, "small allocations": 0.25}
MODEL = "english_2m_2026-10"
FRAMES = 2
TOKENS = 25
Measured = dict[str, dict[str, float]]
"""Kind of count -> name of the stage -> count per frame."""
Stage = Callable[[int], Callable[[], None]]
"""A number of frames -> a call that runs them, from a state of its own."""


def write_weights(path: Path) -> None:
    """The random weights of the model, without the voice encoder: made here and not under valgrind."""
    from pockettts_fast.config import language_config_path, load_config
    from pockettts_fast.testing import random_weights

    weights = random_weights(load_config(language_config_path(MODEL)), 1)
    encoder = ("mimi.encoder", "mimi.downsample.")
    needed: dict[str, Any] = {name: x for name, x in weights.items() if not name.startswith(encoder)}
    np.savez(path, **needed)


def stages(weights_file: Path) -> dict[str, Stage]:
    """What is measured, by name."""
    from pockettts_fast import _core
    from pockettts_fast.config import language_config_path, load_config
    from pockettts_fast.flow_lm import FlowLM
    from pockettts_fast.mimi import MimiDecoder
    from pockettts_fast.testing_quality import random_utterance, weight_set

    config = load_config(language_config_path(MODEL))
    weights = weight_set(dict(np.load(weights_file)))
    pool = _core.Pool(1)
    given = random_utterance(config, 1, frames=3 * FRAMES, prompt=50, ids=TOKENS)
    latents = np.random.default_rng(1).standard_normal((3 * FRAMES, 1, config.latent_dim)).astype(np.float32)

    def lm_step(precision: str) -> Stage:
        stage = FlowLM(config, weights, pool, 1, precision)
        start = stage.state_from_prompt(given.prompt)
        stage.prefill_text(start, given.ids)
        for index in range(FRAMES):
            stage.step([start], latents[index], given.noise[index, None])

        def prepare(frames: int) -> Callable[[], None]:
            state = start.copy()

            def run() -> None:
                for index in range(frames):
                    stage.step([state], latents[index], given.noise[index, None])

            return run

        return prepare

    def prefill(precision: str) -> Stage:
        stage = FlowLM(config, weights, pool, 1, precision)
        start = stage.state_from_prompt(given.prompt)

        def prepare(calls: int) -> Callable[[], None]:
            states = [start.copy() for _ in range(calls)]
            ids = [np.array(given.ids, np.int32)]

            def run() -> None:
                for state in states:
                    stage._stage.prefill_text([state], ids)

            return run

        return prepare

    def codec_frame(precision: str) -> Stage:
        stage = MimiDecoder(config, weights, pool, precision)
        start = stage.new_state()
        for index in range(FRAMES):
            stage.step([start], [latents[index]])

        def prepare(frames: int) -> Callable[[], None]:
            state = start.copy()

            def run() -> None:
                for index in range(frames):
                    stage.step([state], [latents[index]])

            return run

        return prepare

    return {
        "lm step float32": lm_step("float32"),
        "lm step int8": lm_step("int8"),
        f"prefill {TOKENS} float32": prefill("float32"),
        f"prefill {TOKENS} int8": prefill("int8"),
        "codec frame float32": codec_frame("float32"),
        "codec frame bf16": codec_frame("bf16"),
    }


def count_instructions_here(hooks: ctypes.CDLL, weights_file: Path) -> None:
    """Runs under callgrind: one dump for each stage and number of frames, named `stage:frames`."""
    measured = stages(weights_file)
    for prepare in measured.values():
        prepare(1)()
    gc.disable()
    hooks.budget_start()
    for name, prepare in measured.items():
        for frames in (FRAMES, 2 * FRAMES):
            run = prepare(frames)
            hooks.budget_zero()
            run()
            hooks.budget_dump(f"{name}:{frames}".encode())


def count_allocations_here(hooks: ctypes.CDLL, weights_file: Path) -> Measured:
    """Runs with the hooks preloaded: calls of malloc and its kin per frame; growing scratch fails at once."""
    from pockettts_fast import _core

    gc.disable()
    counters = {
        "large allocations": hooks.budget_large_allocations,
        "small allocations": hooks.budget_small_allocations,
    }
    for counter in counters.values():
        counter.restype = ctypes.c_long
    counts: Measured = {kind: {} for kind in counters}
    for name, prepare in stages(weights_file).items():
        if name.startswith("prefill"):
            continue  # grows the caches: not a steady state
        prepare(2 * FRAMES)()
        totals: dict[int, dict[str, int]] = {}
        for frames in (FRAMES, 2 * FRAMES):
            run = prepare(frames)
            grown = _core.scratch_allocations()
            hooks.budget_count(1)
            run()
            hooks.budget_count(0)
            totals[frames] = {kind: counter() for kind, counter in counters.items()}
            if _core.scratch_allocations() != grown:
                raise SystemExit(f"{name}: scratch memory grew in steady state.")
        for kind in counters:
            counts[kind][name] = (totals[2 * FRAMES][kind] - totals[FRAMES][kind]) / FRAMES
    return counts


def build_hooks(folder: Path) -> None:
    """Compiles the hooks."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("There is no C compiler: install gcc.")
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(folder / LIBRARY), str(HOOKS)]
    subprocess.run(command, check=True)


def compiler_name() -> str:
    """The first line of what the compiler says about itself."""
    done = subprocess.run(["cc", "--version"], capture_output=True, text=True)
    return done.stdout.splitlines()[0] if done.stdout else "no compiler"


def worker(kind: str, folder: Path, **environment: str) -> list[str]:
    """The command that runs this file as a worker, with an environment in which counts repeat."""
    fixed = {"PYTHONHASHSEED": "0", "POCKETTTS_FAST_ISA": "avx2", "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1"}
    assignments = [f"{key}={value}" for key, value in (fixed | environment).items()]
    return ["env", *assignments, sys.executable, str(Path(__file__).resolve()), "--worker", kind, str(folder)]


def instructions(folder: Path) -> dict[str, float]:
    """Instructions per frame of each stage."""
    if shutil.which("valgrind") is None:
        raise SystemExit("There is no valgrind: apt-get install valgrind.")
    env, *command = worker("instructions", folder)
    python = command.index(sys.executable)
    output = folder / "callgrind"
    run = [env, *command[:python], "valgrind", "--tool=callgrind", "--instr-atstart=no"]
    run += [f"--callgrind-out-file={output}", *command[python:]]
    done = subprocess.run(run, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"The measurement under valgrind failed:\n{done.stderr[-3000:]}")
    totals: dict[str, dict[int, int]] = {}
    for path in folder.glob("callgrind*"):
        text = path.read_text(errors="replace")
        found = re.search(r"^desc: Trigger: Client Request: (.+):(\d+)$", text, re.MULTILINE)
        count = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if found and count:
            totals.setdefault(found[1], {})[int(found[2])] = int(count[1])
    if not totals:
        raise SystemExit("callgrind wrote no counts: are valgrind's headers (valgrind/callgrind.h) installed?")
    return {name: (counts[2 * FRAMES] - counts[FRAMES]) // FRAMES for name, counts in totals.items()}


def allocations(folder: Path) -> Measured:
    """Allocations per frame of each stage in steady state."""
    done = subprocess.run(
        worker("allocations", folder, LD_PRELOAD=str(folder / LIBRARY)), capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"The count of allocations failed:\n{done.stderr[-3000:]}")
    counts: Measured = json.loads(done.stdout)
    return counts


def faults(measured: Measured, budget: Measured) -> list[str]:
    """What costs more than it may, or is not in the budget."""
    out = []
    for kind, tolerance in TOLERANCES.items():
        allowed = budget.get(kind, {})
        for name in sorted(measured[kind].keys() | allowed.keys()):
            if name not in allowed:
                out.append(f"{name}: no budget of {kind}")
            elif name not in measured[kind]:
                out.append(f"{name}: {kind} were not measured")
            elif measured[kind][name] > allowed[name] * (1 + tolerance):
                out.append(f"{name}: {measured[kind][name]:,.0f} {kind} a frame, the budget is {allowed[name]:,.0f}")
    return out


def table(measured: Measured, budget: Measured) -> str:
    lines = ["| per frame | instructions | of the budget | large allocations | small |", "|" + " --- |" * 5]
    for name, count in sorted(measured["instructions"].items()):
        allowed = budget.get("instructions", {}).get(name)
        cells = [name, f"{count:,}", f"{count / allowed:.1%}" if allowed else "-"]
        for kind in ("large allocations", "small allocations"):
            cells.append(f"{measured[kind][name]:g}" if name in measured[kind] else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail when a count is above its budget")
    parser.add_argument("--update", action="store_true", help="write the counts as the new budget")
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "LIBRARY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, folder = arguments.worker
        hooks = ctypes.CDLL(str(Path(folder) / LIBRARY))
        if kind == "instructions":
            count_instructions_here(hooks, Path(folder) / WEIGHTS)
        else:
            print(json.dumps(count_allocations_here(hooks, Path(folder) / WEIGHTS)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build_hooks(folder)
        write_weights(folder / WEIGHTS)
        measured = {"instructions": instructions(folder), **allocations(folder)}
    budget = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    print(table(measured, budget))
    if arguments.update:
        facts = {"model": MODEL, "compiler": compiler_name(), "isa": "avx2", "threads": 1}
        BUDGET.write_text(json.dumps(facts | measured, indent=1, sort_keys=True) + "\n")
        return 0
    if arguments.check and (found := faults(measured, budget)):
        print(*found, sep="\n")
        made_with = budget.get("compiler", "an unknown compiler")
        print(
            f"Instructions may grow by {TOLERANCES['instructions']:.0%} over bench/budget.json, made with "
            f"{made_with} (here: {compiler_name()}). When the cost is meant, say why in the commit and run: "
            "python tools/instruction_budget.py --update"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
