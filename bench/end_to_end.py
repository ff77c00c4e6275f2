"""Whole utterances, side by side with the original, in one run.

    python bench/end_to_end.py --compare upstream --upstream-python PATH

Both runtimes load the same random checkpoint of the released architecture, get the same voice and the same texts
with the same seeds, and never stop early (the end-of-speech threshold is infinite), so all speak equally long.
Random weights cost the same time as trained ones. The table shows medians over runs in turn.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from harness import Peer, Record, machine, run_in_turn
from start_up import median_in_turn

TEXT = "The quick brown fox jumps over the lazy dog and then walks home again with them."
COLUMNS = [
    ("x real time", "x_real_time", "{:.2f}"),
    ("first audio p50 ms", "first_audio_ms", "{:.0f}"),
    ("LM ms/frame", "lm_ms", "{:.2f}"),
    ("codec ms/frame", "codec_ms", "{:.2f}"),
    ("LM of bandwidth", "lm_share", "{:.0%}"),
    ("codec of peak", "codec_share", "{:.0%}"),
    ("resident MB", "resident_mb", "{:.0f}"),
]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="english", help="a released configuration (default: english)")
    parser.add_argument("--compare", nargs="*", default=[], choices=["upstream", "upstream-int8"])
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    parser.add_argument("--upstream-python", default=sys.executable, help="interpreter that has pocket-tts installed")
    parser.add_argument("--cores", type=int, default=2, help="pin every peer to this many cores (default: 2)")
    parser.add_argument("--runs", type=int, default=5, help="recorded runs per peer (default: 5)")
    parser.add_argument("--prompt-s", type=float, default=10.0, help="length of the voice prompt")
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--start-up", type=int, default=0, metavar="RUNS", help="also time cold starts, RUNS each")
    parser.add_argument("--checkpoint", type=Path, help="folder to keep the random checkpoint in")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--chart", type=Path, help="write a PNG here (needs matplotlib)")
    return parser.parse_args()


def save_voice(config: Path, voice: Path, seconds: float) -> None:
    """Encodes a synthetic prompt and saves the voice; both runtimes read it."""
    from pockettts_fast import TTSModel, testing

    model = TTSModel.load_model(config=config)
    prompt = testing.synthetic_prompt(seconds, model.sample_rate, seed=5)
    model.export_model_state(model.get_state_for_audio_prompt(prompt), voice)


def make_peers(arguments: argparse.Namespace, config: Path, prompt_file: Path, voice_file: Path) -> list[Peer]:
    available = sorted(os.sched_getaffinity(0))
    if arguments.cores > len(available):
        raise SystemExit(f"--cores {arguments.cores}: only {len(available)} cores are available.")
    cores = available[: arguments.cores]

    def options(precision: str) -> Record:
        return {
            "config": str(config),
            "precision": precision,
            "threads": arguments.cores,
            "prompt_s": arguments.prompt_s,
            "prompt_file": str(prompt_file),
            "voice_file": str(voice_file),
        }

    peers = [
        Peer(f"pockettts-fast {precision}", "ours.py", sys.executable, options(precision), cores)
        for precision in arguments.precisions
    ]
    for name in arguments.compare:
        precision = "int8" if name.endswith("int8") else "float32"
        peers.append(
            Peer(f"pocket-tts {precision}", "upstream.py", arguments.upstream_python, options(precision), cores)
        )
    return peers


def table(peers: list[Peer]) -> str:
    titles = [
        "runtime",
        *(title for title, _, _ in COLUMNS),
        "first audio p95 ms",
        "peak MB",
        "import + load s",
    ]
    rows = [[*titles, "voice s", "start to first byte s"]]
    for peer in peers:
        row = [peer.name]
        for _, key, form in COLUMNS:
            row.append(form.format(peer.median(key)) if key in peer.runs[0] else "-")
        row.append(f"{peer.percentile('first_audio_ms', 0.95):.0f}")
        row.append(f"{peer.runs[-1]['peak_mb']:.0f}")
        row.append(f"{peer.loaded['import_s'] + peer.loaded['load_s']:.2f}")
        row.append(f"{peer.loaded['voice_s']:.2f}")
        row.append(f"{peer.loaded['start_up_s']:.2f}" if "start_up_s" in peer.loaded else "-")
        rows.append(row)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def time_starts(peers: list[Peer], config: Path, voice: Path, text: str, runs: int) -> None:
    """Cold starts of the command lines with a saved voice; adds ``start_up_s`` to what each peer has loaded."""
    commands = []
    for peer in peers:
        module = "pockettts_fast" if peer.script == "ours.py" else "pocket_tts"
        command = [
            "taskset",
            "-c",
            ",".join(map(str, peer.cores)),
            peer.python,
            "-m",
            module,
            "generate",
            "-q",
        ]
        command += ["--config", str(config), "--voice", str(voice), "--text", text, "--output-path", "-"]
        if peer.script == "ours.py":
            command += ["--precision", peer.options["precision"]]
        elif peer.options["precision"] == "int8":
            command += ["--quantize"]
        commands.append(command)
    for peer, seconds in zip(peers, median_in_turn(commands, runs), strict=True):
        peer.loaded["start_up_s"] = seconds


def add_shares(peers: list[Peer], config: Path, limits: Record) -> None:
    """What each run of ours used of one core's limits: see ``shares`` in limits.py."""
    from limits import shares
    from pockettts_fast.config import load_config

    parsed = load_config(config)
    for peer in peers:
        if peer.script == "ours.py":
            for run in peer.runs:
                run.update(shares(limits, parsed, peer.options["precision"], run["lm_ms"], run["codec_ms"]))


def ratios(peers: list[Peer]) -> list[str]:
    """Each of ours against each of theirs, from medians of the same run."""
    ours = [peer for peer in peers if peer.script == "ours.py"]
    theirs = [peer for peer in peers if peer.script != "ours.py"]
    return [
        f"{mine.name} / {other.name}: {mine.median('x_real_time') / other.median('x_real_time'):.2f}x the speed, "
        f"{mine.median('first_audio_ms') / other.median('first_audio_ms'):.2f} of the time to first audio"
        for mine in ours
        for other in theirs
    ]


def draw(peers: list[Peer], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.6 * len(peers)))
    names = [peer.name for peer in peers][::-1]
    values = [peer.median("x_real_time") for peer in peers][::-1]
    bars = axes.barh(
        names, values, color=["#2a6fdb" if name.startswith("pockettts-fast") else "#999" for name in names]
    )
    axes.bar_label(bars, fmt="%.1fx", padding=3)
    axes.set_xlabel("times real time (median)")
    axes.set_title(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    arguments = parse()
    from limits import better, measure
    from pockettts_fast import testing
    from pockettts_fast.config import load_config

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.checkpoint or Path(temporary)
        config = folder / "config.yaml"
        if not config.exists():
            print(f"writing a random checkpoint of {arguments.model} ...", file=sys.stderr)
            config = testing.write_checkpoint(folder, arguments.model, seed=3, eos_after=None)
        prompt_file = Path(temporary) / "prompt.f32"
        rate = load_config(config).mimi.sample_rate
        prompt_file.write_bytes(testing.synthetic_prompt(arguments.prompt_s, rate, seed=5).tobytes())
        voice_file = Path(temporary) / "voice.safetensors"
        save_voice(config, voice_file, arguments.prompt_s)
        peers = make_peers(arguments, config, prompt_file, voice_file)
        requests = [{"text": arguments.text, "seed": seed} for seed in range(arguments.runs + 1)]
        limits = measure()
        run_in_turn(peers, requests)
        limits = better(limits, measure())
        add_shares(peers, config, limits)
        if arguments.start_up:
            time_starts(peers, config, voice_file, arguments.text, arguments.start_up)

    facts = machine()
    audio_s = peers[0].runs[0]["audio_s"]
    title = f"{arguments.model}, {arguments.cores} cores, {audio_s:.1f} s of audio"
    text = f"{title}, medians of {arguments.runs} runs in turn on {facts['cpu']}\n\n{table(peers)}\n\n"
    reads = ", ".join(f"{value:.1f} GB/s on {cores}" for cores, value in limits["read_gb_s"].items())
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in limits["gflop_s"].items())
    text += f"Shares are of one core. Limits in this run: memory {reads} core(s); GFLOP/s of one core: {peaks}.\n"
    if lines := ratios(peers):
        text += "\n" + "\n".join(lines) + "\n"
    print(text)
    if arguments.json:
        record = {
            "machine": facts,
            "limits": limits,
            "model": arguments.model,
            "cores": arguments.cores,
            "peers": [{"name": peer.name, "loaded": peer.loaded, "runs": peer.runs} for peer in peers],
        }
        arguments.json.write_text(json.dumps(record, indent=1))
    if arguments.markdown:
        arguments.markdown.write_text(text)
    if arguments.chart:
        draw(peers, arguments.chart, title)


if __name__ == "__main__":
    main()
