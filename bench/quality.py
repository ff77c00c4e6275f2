"""How far int8 and bfloat16 are from float32, with the same voice, text, noise and past latents.

    python bench/quality.py [--model english ...] [--config FILE ...] [--json FILE] [--markdown FILE]

Models by name get random weights, as they are and with outliers 30 times larger; `--config` measures a
checkpoint as it is, with a random voice and text. What the columns mean: pockettts_fast/testing_quality.py.
The bounds that the project keeps, with their reasons: tests/test_precision_quality.py.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import machine
from pockettts_fast import _core
from pockettts_fast.config import Config, language_config_path, load_config
from pockettts_fast.flow_lm import FlowLM
from pockettts_fast.mimi import MimiDecoder
from pockettts_fast.testing import random_weights
from pockettts_fast.testing_quality import (
    LatentQuality,
    SoundQuality,
    compare_codecs,
    compare_language_models,
    random_utterance,
    weight_set,
    with_outliers,
)
from pockettts_fast.weights import WeightSet, load_tensors

OUTLIERS = {
    "random weights": None,
    "outlier weights": {"in_weights": True, "in_activations": False},
    "outlier activations": {"in_weights": False, "in_activations": True},
    "outlier weights and activations": {"in_weights": True, "in_activations": True},
}


def checkpoints(arguments: argparse.Namespace) -> Iterator[tuple[str, str, Config, WeightSet]]:
    """Model, kind of weights, configuration, weights."""
    for model in arguments.model:
        config = load_config(language_config_path(model))
        weights = random_weights(config, arguments.seed)
        for kind, switches in OUTLIERS.items():
            yield (
                model,
                kind,
                config,
                weight_set(weights if switches is None else with_outliers(weights, arguments.seed, **switches)),
            )
    for path in arguments.config:
        config = load_config(path)
        yield str(path), "as it is", config, load_tensors(config, None)


def measure(config: Config, weights: WeightSet, frames: int, seed: int) -> tuple[LatentQuality, SoundQuality]:
    """int8 against float32 in the language model, bfloat16 against float32 in the codec."""
    pool = _core.Pool(_core.usable_cores())
    given = random_utterance(config, seed, frames=frames)
    lm = [FlowLM(config, weights, pool, 1, precision) for precision in ("float32", "int8")]
    latents, spoken = compare_language_models(lm[0], lm[1], given)
    codec = [MimiDecoder(config, weights, pool, precision) for precision in ("float32", "bf16")]
    return latents, compare_codecs(codec[0], codec[1], spoken, config.mimi.sample_rate)


def row(model: str, kind: str, latents: LatentQuality, sound: SoundQuality) -> str:
    cells = [
        model,
        kind,
        f"{latents.latent_error:.2%}",
        f"{latents.worst_frame:.2%}",
        f"{latents.eos_error:.3f}",
        f"{latents.eos_worst:.3f}",
        f"{latents.eos_spread:.2f}",
        f"{sound.snr_db:.1f}",
        f"{sound.worst_frame_db:.1f}",
        f"{sound.floor_db:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", default=["english", "english_2m_2026-10"], help="released configurations")
    parser.add_argument("--config", nargs="*", type=Path, default=[], help="configurations with weights")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    arguments = parser.parse_args()

    titles = ["model", "weights", "latent error", "worst frame", "EOS error", "EOS worst", "EOS spread"]
    titles += ["codec S/E dB", "worst frame dB", "floor dB"]
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    records: list[dict[str, Any]] = []
    for model, kind, config, weights in checkpoints(arguments):
        print(f"measuring {model}, {kind} ...", file=sys.stderr)
        latents, sound = measure(config, weights, arguments.frames, arguments.seed)
        weights.close()
        lines.append(row(model, kind, latents, sound))
        facts = {"int8": dataclasses.asdict(latents), "bf16": dataclasses.asdict(sound)}
        records.append({"model": model, "weights": kind, **facts})
    text = f"{arguments.frames} frames, int8 and bf16 against float32, {_core.active_isa()}\n\n" + "\n".join(lines)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text + "\n")
    if arguments.json:
        record = {
            "machine": machine(),
            "isa": _core.active_isa(),
            "frames": arguments.frames,
            "results": records,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
