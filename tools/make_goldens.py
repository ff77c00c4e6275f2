"""Store what the original pocket-tts gives for tiny synthetic models, for tests/test_golden.py.

Run in an environment with pocket-tts 4.0.1, torch and this package:

    python tools/make_goldens.py [folder]

One file a case of tests/golden_cases.py: the voice's last cache, the latents, the samples, the token ids,
and a fingerprint of the weights and the prompt, which both sides make themselves.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch
from pocket_tts import TTSModel

import tiny_models
from golden_cases import AUDIO_SCALE, AUDIO_STRIDE, CASES, FOLDER, PROMPT_SECONDS, Case, fingerprint
from pockettts_fast.config import load_config
from pockettts_fast.testing import random_weights, synthetic_prompt, write_checkpoint


def run(case: Case, folder: Path) -> dict[str, Any]:
    """The original's results for one case."""
    path = write_checkpoint(
        folder,
        tiny_models.document(case.name, **case.changes),
        case.checkpoint_seed,
        eos_after=case.eos_after,
    )
    model = TTSModel.load_model(config=str(path), **case.arguments)
    prompt = synthetic_prompt(PROMPT_SECONDS, model.sample_rate, case.checkpoint_seed)
    voice = model.get_state_for_audio_prompt(torch.from_numpy(prompt)[None])

    texts: list[np.ndarray] = []
    prepare = model.flow_lm.conditioner.prepare
    model.flow_lm.conditioner.prepare = lambda text: texts.append(prepare(text).numpy()[0]) or prepare(text)
    decoded: list[np.ndarray] = []
    decode = model.mimi.decode_from_latent

    def decode_and_keep(latents: torch.Tensor, state: Any) -> torch.Tensor:
        decoded.append(latents[0].double().numpy())
        return decode(latents, state)

    model.mimi.decode_from_latent = decode_and_keep
    torch.manual_seed(case.seed)
    audio = model.generate_audio(voice, case.text, **case.speech).numpy()

    # The codec gets latents * std + mean; stored are the latents themselves.
    std, mean = (buffer.double().numpy() for buffer in (model.flow_lm.emb_std, model.flow_lm.emb_mean))
    arrays = random_weights(load_config(path), case.checkpoint_seed, eos_after=case.eos_after)
    layer = len(voice) - 1
    return {
        "fingerprint": fingerprint({**arrays, "prompt": prompt}),
        "ids": np.concatenate(texts).astype(np.int16),
        "cache": voice[f"transformer.layers.{layer}.self_attn"]["cache"].numpy().astype(np.float16),
        "latents": ((np.concatenate(decoded) - mean) / std).astype(np.float16),
        "samples": np.int64(len(audio)),
        "audio": np.round(audio[::AUDIO_STRIDE] * AUDIO_SCALE).astype(np.int16),
    }


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    target.mkdir(parents=True, exist_ok=True)
    total = 0
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            results = run(case, Path(folder))
        path = target / case.path.name
        np.savez_compressed(path, **results)
        total += path.stat().st_size
        print(f"{path}: {len(results['latents'])} frames, {path.stat().st_size} bytes")
    print(f"{total} bytes together")


if __name__ == "__main__":
    main()
