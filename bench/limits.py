"""The limits of this machine, and how much of them a frame of a model needs.

    python bench/limits.py [--json FILE] [--megabytes 512] [--model english ...]

Bandwidth: large pages, a buffer far beyond the caches, every byte read once a pass. Peaks: products from the
first-level cache, on one core. The best pass or slice counts: a limit is what the machine can do, and
everything that disturbs a measurement only lowers it.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from harness import machine
from pockettts_fast import _core
from pockettts_fast.config import Config, language_config_path, load_config
from pockettts_fast.tts import PRECISIONS
from pockettts_fast.weight_names import expected_tensors

ELEMENT_TYPES = ("float32", "bf16", "int8")
_BYTES = {"float32": 4, "bf16": 2, "int8": 1}
# What stays float32 in every precision: csrc/blocks/backbone.cpp and flow_head.cpp.
_ALWAYS_FLOAT32 = r"flow_lm\.(input_linear|z_proj|out_eos|flow_net\.(input_proj|final_layer\.linear))\.weight"
_EVERY_FRAME = r"flow_lm\.(transformer\..*|z_proj|out_eos|input_linear)\.weight"
_EVERY_SAMPLER_STEP = r"flow_lm\.flow_net\.(input_proj|res_blocks\.|final_layer\.).*weight"


def bandwidth(threads: int, megabytes: int = 512, passes: int = 5, isa: str | None = None) -> float:
    """GB/s read from memory by so many cores together."""
    return max(_core.kernels.read_bandwidth(isa or _core.active_isa(), threads, megabytes, passes))


def peak(arithmetic: str, seconds: float = 0.2, threads: int = 1, isa: str | None = None) -> float:
    """GFLOP/s, for int8 1e9 integer operations a second; a multiplication and an addition count two."""
    return max(_core.kernels.peak(isa or _core.active_isa(), arithmetic, seconds, threads))


def measure(megabytes: int = 512) -> dict[str, Any]:
    """The limits that shares are taken of: of the instruction set in use, peaks on one core."""
    return {
        "isa": _core.active_isa(),
        "read_gb_s": {str(n): bandwidth(n, megabytes) for n in sorted({1, _core.usable_cores()})},
        "gflop_s": {arithmetic: peak(arithmetic) for arithmetic in ELEMENT_TYPES},
    }


def better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The higher of two measurements: before and after a run, because the limits of a shared machine move."""
    return {
        "isa": one["isa"],
        **{
            kind: {key: max(value, other[kind][key]) for key, value in one[kind].items()}
            for kind in ("read_gb_s", "gflop_s")
        },
    }


def frame_work(config: Config, precision: str, steps: int = 1) -> dict[str, float]:
    """Per frame of 80 ms: ``lm_bytes`` of weights that a step reads, ``codec_flop`` of the decoder."""
    return {
        "lm_bytes": float(_lm_bytes(config, PRECISIONS[precision][0], steps)),
        "codec_flop": float(_codec_flop(config)),
    }


def shares(limits: dict[str, Any], config: Config, precision: str, lm_ms: float, codec_ms: float) -> dict[str, float]:
    """How much of one core's limits a measured frame used, 1 for all of it.

    ``lm_share``: bandwidth; above 1 when helpers join in or the weights stay in the cache. ``codec_share``:
    peak of the codec's arithmetic; likewise above 1 with helpers.
    """
    work = frame_work(config, precision)
    codec_peak = limits["gflop_s"][PRECISIONS[precision][1]]
    return {
        "lm_share": work["lm_bytes"] / (1e6 * lm_ms) / limits["read_gb_s"]["1"],
        "codec_share": work["codec_flop"] / (1e6 * codec_ms) / codec_peak,
    }


def _lm_bytes(config: Config, arithmetic: str, steps: int) -> int:
    total = 0
    for name, shape in expected_tensors(config).items():
        if len(shape) != 2:
            continue
        size = shape[0] * shape[1] * (4 if re.fullmatch(_ALWAYS_FLOAT32, name) else _BYTES[arithmetic])
        if re.fullmatch(_EVERY_FRAME, name) or name == "flow_lm.flow_net.cond_embed.weight":
            total += size
        elif re.fullmatch(_EVERY_SAMPLER_STEP, name):
            total += size * steps
    return total


def _codec_flop(config: Config) -> int:
    mimi = config.mimi
    transformer = mimi.decoding_transformer
    ratios = iter(mimi.decoding_seanet.ratios)
    rows = mimi.resample_stride
    total = 4 * rows * transformer.context * transformer.d_model * transformer.num_layers  # q k and p v
    for name, shape in expected_tensors(config).items():
        size = 2
        for extent in shape:
            size *= extent
        if name == "mimi.quantizer.output_proj.weight" or name.startswith("mimi.upsample."):
            total += size
        elif re.match(r"mimi\.decoder_transformer\..*weight", name) and len(shape) == 2:
            total += size * mimi.resample_stride
        elif re.match(r"mimi\.decoder\..*weight", name):
            total += size * rows  # a transposed convolution works at the rate of its input
            if ".convtr." in name:
                rows *= next(ratios)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    parser.add_argument("--megabytes", type=int, default=512, help="size of the buffer (default: 512)")
    parser.add_argument("--model", nargs="*", default=["english", "english_2m_2026-10"])
    arguments = parser.parse_args()
    record: dict[str, Any] = {"machine": machine(), **measure(arguments.megabytes)}
    print(record["machine"]["cpu"])
    for threads, value in record["read_gb_s"].items():
        print(f"reading memory, {threads} core(s): {value:.1f} GB/s")
    record["all_gflop_s"] = {
        isa: {arithmetic: peak(arithmetic, isa=isa) for arithmetic in ELEMENT_TYPES} for isa in _core.available_isas()
    }
    print("\n| GFLOP/s, one core | " + " | ".join(ELEMENT_TYPES) + " |\n|" + " --- |" * (1 + len(ELEMENT_TYPES)))
    for isa, values in record["all_gflop_s"].items():
        print(f"| {isa} | " + " | ".join(f"{values[arithmetic]:.0f}" for arithmetic in ELEMENT_TYPES) + " |")
    print("\n| one frame, one core | precision | LM MB | LM ms at least | codec GFLOP | codec ms at least |")
    print("|" + " --- |" * 6)
    record["frames"] = {}
    for model in arguments.model:
        config = load_config(language_config_path(model))
        for precision, (_, codec) in PRECISIONS.items():
            work = frame_work(config, precision)
            lm_ms = work["lm_bytes"] / record["read_gb_s"]["1"] / 1e6
            codec_ms = work["codec_flop"] / record["gflop_s"][codec] / 1e6
            record["frames"][f"{model} {precision}"] = {**work, "lm_ms": lm_ms, "codec_ms": codec_ms}
            print(
                f"| {model} | {precision} | {work['lm_bytes'] / 1e6:.1f} | {lm_ms:.2f} "
                f"| {work['codec_flop'] / 1e9:.3f} | {codec_ms:.2f} |"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
