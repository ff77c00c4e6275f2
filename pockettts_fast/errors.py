"""Every exception this package raises on purpose.

All derive from :class:`PocketTTSError`, and each also derives from the built-in exception that the
original ``pocket_tts`` documents for the same situation, so existing ``except`` clauses keep working.
Messages are one sentence: what was wrong, what was expected, what to do.
"""


class PocketTTSError(Exception):
    """Base of every error raised by pockettts_fast."""


class ConfigError(PocketTTSError, ValueError):
    """A configuration has an unknown, missing or impossible value, or names an unknown language."""


class WeightsError(PocketTTSError, ValueError):
    """A checkpoint is damaged, or its tensors do not fit the configuration."""


class TokenizerError(PocketTTSError, ValueError):
    """A tokenizer file is damaged or has another vocabulary size than the configuration."""


class TextError(PocketTTSError, ValueError):
    """A text that cannot be spoken: empty, or not valid Unicode."""


class VoiceError(PocketTTSError, ValueError):
    """A voice that cannot be used: unknown name, damaged file, or a state of another model."""


class AudioError(PocketTTSError, ValueError):
    """An audio file or array that cannot be read, or holds nothing usable."""


class OutputError(PocketTTSError, OSError):
    """An output that cannot be written."""


class DownloadError(PocketTTSError, OSError):
    """A file that is not in the cache and cannot be downloaded now."""


class MissingFileError(PocketTTSError, FileNotFoundError):
    """A local file or folder that does not exist."""


class GenerationError(PocketTTSError, RuntimeError):
    """Generation failed or was used after its end (for instance in a forked child)."""


class DependencyError(PocketTTSError, ImportError):
    """An optional library is needed for this operation and is not installed."""
