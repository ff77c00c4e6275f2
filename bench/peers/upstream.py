"""Peer: the original pocket-tts (PyTorch)."""

import time

started = time.perf_counter()

import logging  # noqa: E402
from pathlib import Path  # noqa: E402

import _protocol  # noqa: E402
import torch  # noqa: E402
from pocket_tts import TTSModel  # noqa: E402


def main() -> None:
    options = _protocol.options()
    logging.getLogger("pocket_tts").setLevel(logging.ERROR)
    imported = time.perf_counter()
    model = TTSModel.load_model(
        config=options["config"], eos_threshold=float("inf"), quantize=options["precision"] == "int8"
    )
    loaded = time.perf_counter()
    voice = model.get_state_for_audio_prompt(options["voice_file"])
    _protocol.answer(import_s=imported - started, load_s=loaded - imported, threads=torch.get_num_threads())
    for request in _protocol.requests():
        torch.manual_seed(request["seed"])
        stream = model.generate_audio_stream(voice, request["text"])
        _protocol.answer(**_protocol.consume(stream, model.sample_rate))
    prompt = torch.frombuffer(bytearray(Path(options["prompt_file"]).read_bytes()), dtype=torch.float32)
    start = time.perf_counter()
    model.get_state_for_audio_prompt(prompt[None])
    _protocol.answer(voice_s=time.perf_counter() - start)


main()
