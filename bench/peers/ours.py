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
    prompt = testing.synthetic_prompt(options["prompt_s"], model.sample_rate, seed=5)
    voice = model.get_state_for_audio_prompt(prompt)
    voiced = time.perf_counter()
    _protocol.answer(
        import_s=imported - started, load_s=loaded - imported, voice_s=voiced - loaded, threads=model.threads
    )
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


main()
