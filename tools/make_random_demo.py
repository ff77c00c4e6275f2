"""Make the demo language's files from random weights: ``python tools/make_random_demo.py``.

The result, well under 1 MB, goes to ``pockettts_fast/demo``: a configuration with every kind of part that
the small released models have, weights in float16, a tokenizer and one voice state. It does not sound like
speech; it lets a fresh installation run from text to audio without a download.
"""

import argparse
import zlib
from pathlib import Path

import numpy as np
import yaml

from pockettts_fast.config import Config, config_from_dict
from pockettts_fast.testing import make_tokenizer_json, random_weights, save_weights
from pockettts_fast.voice_state import ModelState, attention_module, check_model_state, export_model_state
from pockettts_fast.weight_names import attention_shape, expected_tensors

DESTINATION = Path(__file__).resolve().parent.parent / "pockettts_fast" / "demo"
SEED = 2026
VOICE_POSITIONS = 30

_SEANET = {
    "dimension": 64,
    "channels": 1,
    "n_filters": 4,
    "n_residual_layers": 1,
    "ratios": [6, 5, 4],
    "kernel_size": 7,
    "residual_kernel_size": 3,
    "last_kernel_size": 3,
    "dilation_base": 2,
    "pad_mode": "constant",
    "compress": 2,
}
_TRANSFORMER = {
    "d_model": 64,
    "num_heads": 4,
    "num_layers": 1,
    "layer_scale": 0.01,
    "context": 250,
    "dim_feedforward": 128,
    "input_dimension": 64,
    "output_dimensions": [64],
}
CONFIG = {
    "weights_path": "package://demo/model.safetensors",
    "default_temperature": 0.3,
    "default_eos_threshold": -1.0,
    "replace_characters": {"–": ",", "—": ",", "’": "'", "‘": "'"},
    "flow_lm": {
        "insert_bos_before_voice": True,
        "dtype": "float32",
        "flow": {"depth": 2, "dim": 32, "type": "pointwise"},
        "transformer": {
            "d_model": 64,
            "hidden_scale": 1,
            "max_period": 10000,
            "num_heads": 3,
            "num_layers": 4,
            "dim_feedforward": 96,
            "attn_dim": 96,
            "num_kv_heads": 1,
        },
        "lookup_table": {
            "dim": 64,
            "n_bins": 1000,
            "tokenizer": "tokenizers",
            "tokenizer_path": "package://demo/tokenizer.json",
            "rank": 16,
        },
        "z_dim": 32,
    },
    "mimi": {
        "dtype": "float32",
        "sample_rate": 24000,
        "inner_dim": 16,
        "outer_dim": 48,
        "channels": 1,
        "frame_rate": 12.5,
        "seanet": _SEANET,
        "transformer": _TRANSFORMER,
        "quantizer": {"dimension": 16, "output_dimension": 48},
        "decoder_seanet": _SEANET | {"dimension": 48, "n_filters": 8, "kernel_size": 3},
        "decoder_transformer": _TRANSFORMER
        | {"d_model": 48, "num_layers": 2, "context": 50, "input_dimension": 48, "output_dimensions": [48]},
    },
}


def random_voice(config: Config) -> ModelState:
    """A state of a voice that nobody has: finite keys and values of about the size of real ones."""
    kv_heads, head_dim = attention_shape(config.flow_lm)
    state: ModelState = {}
    for layer in range(config.flow_lm.transformer.num_layers):
        module = attention_module(layer)
        rng = np.random.default_rng([SEED, zlib.crc32(module.encode())])
        state[module] = {
            "offset": np.array([VOICE_POSITIONS], np.int64),
            "pad": np.zeros(1, np.int64),
            "cache": rng.standard_normal((2, 1, VOICE_POSITIONS, kv_heads, head_dim), np.float32),
        }
    check_model_state(state, config)
    return state


def main() -> None:
    """Write the four files and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--destination", type=Path, default=DESTINATION, help="folder to write to")
    destination: Path = parser.parse_args().destination
    (destination / "voices").mkdir(parents=True, exist_ok=True)

    config = config_from_dict(CONFIG, "the demo configuration")
    with open(destination / "demo.yaml", "w", encoding="utf-8") as file:
        file.write("# A tiny model with random weights, made by tools/make_random_demo.py.\n\n")
        yaml.dump(CONFIG, file, Dumper=_PlainDumper, allow_unicode=True, sort_keys=False)
    save_weights(random_weights(config, SEED), destination / "model.safetensors", "float16")
    make_tokenizer_json(config.flow_lm.lookup_table.n_bins, destination / "tokenizer.json")
    export_model_state(random_voice(config), destination / "voices" / "demo.safetensors")

    parameters = sum(int(np.prod(shape)) for shape in expected_tensors(config).values())
    total = sum(path.stat().st_size for path in destination.rglob("*") if path.is_file())
    print(f"{parameters} parameters, {total} bytes in {destination}")


class _PlainDumper(yaml.SafeDumper):
    """YAML that repeats what occurs twice instead of referring to it."""

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    main()
