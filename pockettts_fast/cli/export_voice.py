"""``pockettts-fast export-voice``: a recording, or a folder of recordings, to saved voices."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pockettts_fast.cli import facts, options
from pockettts_fast.cli.errors import CommandError, one_line, say
from pockettts_fast.cli.messages import Messages
from pockettts_fast.errors import AudioError, OutputError, PocketTTSError

if TYPE_CHECKING:
    from pockettts_fast.tts import TTSModel

RECORDING_SUFFIXES = (
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".au",
    ".caf",
    ".w64",
)
"""Which files of a folder are taken for recordings; a single file may have any name."""


@click.command(name="export-voice")
@click.argument("audio_path")
@click.argument("export_path")
@options.quiet_option
@options.language_option
@options.config_option
@options.threads_option
@options.precision_option
@options.json_path_option
def export_voice(
    audio_path: str,
    export_path: str,
    quiet: bool,
    language: str | None,
    config: str | None,
    threads: int | None,
    precision: str,
    json_path: str | None,
) -> None:
    """Turn the recording AUDIO_PATH into the voice EXPORT_PATH (.safetensors), which loads at once.

    Only the first 30 seconds of a recording are used. If AUDIO_PATH is a directory, all recordings in it
    are converted, and EXPORT_PATH is the directory to write to. AUDIO_PATH may also be an https:// or an
    hf:// address.
    """
    options.refuse_both(language=language, config=config)
    messages = Messages(quiet)
    with messages.collecting_log():
        pairs = plan(audio_path, export_path)
        if json_path is not None:
            facts.check_writable(json_path, "JSON file")

        from pockettts_fast import TTSModel

        began = time.perf_counter()
        model = TTSModel.load_model(language=language, config=config, precision=precision, threads=threads)
        if model.notice is not None:
            messages.note(model.notice)
        load_s = time.perf_counter() - began
        is_folder = os.path.isdir(audio_path)
        if is_folder:
            _make_folder(export_path)
        voices = [_convert(model, source, target, messages, is_folder) for source, target in pairs]
        if json_path is not None:
            run = {
                "language": language,
                "config": config,
                "load_s": load_s,
                "threads": model.threads,
                "precision": model.precision,
                "voices": voices,
            }
            facts.write_json(json_path, run)
    failures = sum(voice["error"] is not None for voice in voices)
    if failures:
        raise CommandError(f"{failures} of {len(voices)} recordings could not be converted.")


def plan(audio_path: str, export_path: str) -> list[tuple[str, str]]:
    """Which recording goes to which file.

    Raises:
        AudioError: a folder without recordings, or with two that would go to the same file.
        OutputError: a target that cannot be written.
    """
    from pockettts_fast.hub import path_part

    if not os.path.isdir(audio_path):
        target = export_path
        if os.path.isdir(export_path):
            target = os.path.join(export_path, Path(path_part(audio_path)).stem + ".safetensors")
        facts.check_writable(target, "voice")
        return [(audio_path, target)]

    names = sorted(entry.name for entry in os.scandir(audio_path) if _is_recording(entry))
    if not names:
        raise AudioError(
            f"The directory {audio_path!r} holds no recordings: they are expected in it as "
            f"{', '.join(RECORDING_SUFFIXES)} files."
        )
    targets: dict[str, str] = {}
    for name in names:
        target = Path(name).stem + ".safetensors"
        if target in targets:
            raise AudioError(f"{targets[target]!r} and {name!r} would both become {target!r}: rename one of them.")
        targets[target] = name
    pairs = [(os.path.join(audio_path, name), os.path.join(export_path, to)) for to, name in targets.items()]
    if os.path.isdir(export_path):
        for _, target in pairs:
            facts.check_writable(target, "voice")
    elif os.path.lexists(export_path):
        raise OutputError(f"{export_path!r} is no directory: name one to write the voices to.")
    return pairs


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as err:
        raise OutputError(f"The directory {path!r} cannot be made ({err.strerror or err}).") from err


def _is_recording(entry: "os.DirEntry[str]") -> bool:
    hidden = entry.name.startswith(".")
    return not hidden and entry.name.lower().endswith(RECORDING_SUFFIXES) and entry.is_file()


def _convert(model: "TTSModel", source: str, target: str, messages: Messages, goes_on: bool) -> dict[str, Any]:
    """Convert one recording. With ``goes_on`` a bad recording is said and does not stop the others."""
    began = time.perf_counter()
    error = None
    try:
        model.export_model_state(model.get_state_for_audio_prompt(source, truncate=True), target)
        messages.note(f"Wrote {target}")
    except (PocketTTSError, OSError) as err:
        if not goes_on or isinstance(err, OutputError) or not model.has_voice_cloning:
            raise
        error = one_line(str(err))
        messages.clear_progress()
        say(f"Error: {error}")
    return {"source": source, "voice": target, "elapsed_s": time.perf_counter() - began, "error": error}
