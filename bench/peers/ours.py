"""Peer: pockettts_fast."""

import time

started = time.perf_counter()

import _protocol  # noqa: E402

from pockettts_fast import TTSModel, testing  # noqa: E402


def main() -> None:
    options = _protocol.options()
    imported = time.perf_counter()
    model = TTSModel.load_model(
        config=options["config"],
        eos_threshold=float("inf"),
        precision=options["precision"],
        threads=options["threads"],
    )
    loaded = time.perf_counter()
    voice = model.get_state_for_audio_prompt(options["voice_file"])
    _protocol.answer(import_s=imported - started, load_s=loaded - imported, threads=model.threads)
    for request in _protocol.requests():
        stream = model.generate_audio_stream(voice, request["text"], seed=request["seed"])
        facts = _protocol.consume(stream, model.sample_rate)
        report = stream.report
        _protocol.answer(
            **facts,
            lm_ms=1e3 * report.lm_s / max(1, report.frames),
            codec_ms=1e3 * report.codec_s / max(1, report.frames),
            prefill_ms=1e3 * report.prefill_s,
        )
    # Last, so that the encoder does not count as resident before.
    prompt = testing.synthetic_prompt(options["prompt_s"], model.sample_rate, seed=5)
    start = time.perf_counter()
    model.get_state_for_audio_prompt(prompt)
    _protocol.answer(voice_s=time.perf_counter() - start)


main()
