"""Fast, faithful CPU runtime for Kyutai's Pocket TTS.

>>> from pockettts_fast import TTSModel
>>> model = TTSModel.load_model(language="demo")
>>> voice = model.get_state_for_audio_prompt("demo")
>>> audio = model.generate_audio(voice, "Hello from a small computer.", seed=1)
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pockettts_fast.engine import AudioStream, GenerationReport
    from pockettts_fast.errors import PocketTTSError
    from pockettts_fast.text import TextChunk
    from pockettts_fast.tts import TTSModel, export_model_state

__all__ = [
    "AudioStream",
    "GenerationReport",
    "PocketTTSError",
    "TTSModel",
    "TextChunk",
    "__version__",
    "export_model_state",
]

_HOMES = {
    "AudioStream": "engine",
    "GenerationReport": "engine",
    "PocketTTSError": "errors",
    "TTSModel": "tts",
    "TextChunk": "text",
    "export_model_state": "tts",
}


def _prefer_built_package() -> None:
    """In a source checkout, take the modules from the installed package, which has the compiled parts.

    Python puts the working directory first, so `python -m` and `python -c` there find the sources.
    """
    if importlib.util.find_spec("pockettts_fast._core") is not None:
        return
    from importlib import metadata
    from pathlib import Path

    try:
        installed = Path(str(metadata.distribution("pockettts-fast").locate_file("pockettts_fast")))
    except metadata.PackageNotFoundError:
        return
    if installed.is_dir():
        __path__[:] = [str(installed)]
        importlib.invalidate_caches()


_prefer_built_package()


def __getattr__(name: str) -> Any:
    # Public names load on first use: `--version` and `doctor` must not pay for NumPy.
    if name == "__version__":
        from importlib import metadata

        return metadata.version("pockettts-fast")
    if name in _HOMES:
        try:
            module = importlib.import_module(f"pockettts_fast.{_HOMES[name]}")
        except ModuleNotFoundError as err:
            if err.name in ("pockettts_fast._core", "pockettts_fast.audio._dsp"):
                raise ImportError(
                    "The compiled parts of pockettts_fast are not built here: run `pip install .` in its folder."
                ) from err
            raise
        return getattr(module, name)
    raise AttributeError(f"module 'pockettts_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
