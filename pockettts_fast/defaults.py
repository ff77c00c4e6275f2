"""Facts of the released models that are not in their configurations.

Source: ``pocket_tts.default_parameters``, ``pocket_tts.utils.utils`` and the constants of
``pocket_tts.models.tts_model`` (4.0.1). The voices' addresses are pinned to the commits that upstream pins.
"""

import difflib

from pockettts_fast.errors import VoiceError

DEFAULT_LANGUAGE = "english"
DEMO_LANGUAGE = "demo"
"""The language whose checkpoint lies in the package, so that it needs no download."""

DEFAULT_TEMPERATURE = 0.3
DEFAULT_SAMPLER_DECODE_STEPS = 1
DEFAULT_NOISE_CLAMP: float | None = None
DEFAULT_EOS_THRESHOLD = -4.0
DEFAULT_FRAMES_AFTER_EOS: int | None = None

MAX_TOKENS_PER_CHUNK = 50
MIN_FRAMES_BEFORE_EOS = 6
"""The end-of-speech logit is ignored on this many frames at the start of a chunk."""
TOKENS_PER_SECOND_ESTIMATE = 3.0
"""With :data:`GENERATION_SECONDS_PADDING`: a chunk may last ``tokens / 3 + 2`` seconds."""
GENERATION_SECONDS_PADDING = 2.0

_TEXTS = {
    "english": ("Hello world. I am Kyutai's Pocket TTS. I'm fast enough to run on small CPUs. I hope you'll like me."),
    "french": (
        "Bonjour le monde. Je suis le TTS de poche de Kyutai. "
        "Je suis assez rapide pour fonctionner sur de petits CPU. J'espère que vous m'aimerez."
    ),
    "german": (
        "Hallo Welt. Ich bin Pocket TTS von Kyutai. "
        "Ich bin schnell genug, um auch auf kleinen CPUs zu laufen. Ich hoffe, ich gefalle dir."
    ),
    "portuguese": (
        "Olá mundo. Eu sou o Pocket TTS da Kyutai. "
        "Sou rápido o suficiente para rodar em CPUs pequenas. Espero que você goste de mim."
    ),
    "italian": (
        "Ciao mondo. Sono il Pocket TTS di Kyutai. "
        "Sono abbastanza veloce da funzionare su piccole CPU. Spero che ti piacerò."
    ),
    "dutch": (
        "Hallo wereld. Ik ben Pocket TTS van Kyutai. "
        "Ik ben snel genoeg om op kleine CPU's te draaien. Ik hoop dat je me leuk vindt."
    ),
    "spanish": (
        "Hola mundo. Soy el Pocket TTS de Kyutai. "
        "Soy lo suficientemente rápido para funcionar en pequeñas CPU. Espero que te guste."
    ),
}

_VOICES = {
    "italian": "giovanni",
    "spanish": "lola",
    "german": "juergen",
    "portuguese": "rafael",
    "french": "estelle",
    "dutch": "daan",
}
_FALLBACK_VOICE = "alba"

_VOICES_REPOSITORY = "hf://kyutai/tts-voices"
_MODEL_REPOSITORY = "hf://kyutai/pocket-tts"
_MODEL_VOICES_COMMIT = "64ab7d24c479d736a83b8cc666c4a776fca30fda"
_STATES_REPOSITORY = "hf://kyutai/pocket-tts-without-voice-cloning"
_STATES_COMMIT = "a7056f505a4a8ca72d8b5fb1440071d6f1a35739"

PREDEFINED_VOICE_RECORDINGS: dict[str, str] = {
    "cosette": f"{_VOICES_REPOSITORY}/expresso/ex04-ex02_confused_001_channel1_499s.wav",
    "marius": f"{_VOICES_REPOSITORY}/voice-donations/Selfie.wav",
    "javert": f"{_VOICES_REPOSITORY}/voice-donations/Butter.wav",
    "alba": f"{_VOICES_REPOSITORY}/alba-mackenna/casual.wav",
    "jean": f"{_VOICES_REPOSITORY}/ears/p010/freeform_speech_01_enhanced.wav",
    "anna": f"{_VOICES_REPOSITORY}/vctk/p228_023_enhanced.wav",
    "vera": f"{_VOICES_REPOSITORY}/vctk/p229_023_enhanced.wav",
    "fantine": f"{_VOICES_REPOSITORY}/vctk/p244_023_enhanced.wav",
    "charles": f"{_VOICES_REPOSITORY}/vctk/p254_023_enhanced.wav",
    "paul": f"{_VOICES_REPOSITORY}/vctk/p259_023_enhanced.wav",
    "eponine": f"{_VOICES_REPOSITORY}/vctk/p262_023_enhanced.wav",
    "azelma": f"{_VOICES_REPOSITORY}/vctk/p303_023_enhanced.wav",
    "george": f"{_VOICES_REPOSITORY}/vctk/p315_023_enhanced.wav",
    "mary": f"{_VOICES_REPOSITORY}/vctk/p333_023_enhanced.wav",
    "jane": f"{_VOICES_REPOSITORY}/vctk/p339_023_enhanced.wav",
    "michael": f"{_VOICES_REPOSITORY}/vctk/p360_023_enhanced.wav",
    "eve": f"{_VOICES_REPOSITORY}/vctk/p361_023_enhanced.wav",
    "bill_boerst": f"{_VOICES_REPOSITORY}/voice-zero/bill_boerst.wav",
    "peter_yearsley": f"{_VOICES_REPOSITORY}/voice-zero/peter_yearsley.wav",
    "stuart_bell": f"{_VOICES_REPOSITORY}/voice-zero/stuart_bell.wav",
    "caro_davy": f"{_VOICES_REPOSITORY}/voice-zero/caro_davy.wav",
    "giovanni": f"{_MODEL_REPOSITORY}/common_voice_it_36520747-enhanced-v2.mp3@{_MODEL_VOICES_COMMIT}",
    "lola": f"{_MODEL_REPOSITORY}/common_voice_es_19762977-enhanced-v2.mp3@{_MODEL_VOICES_COMMIT}",
    "juergen": f"{_MODEL_REPOSITORY}/de-DE-juergen.mp3@{_MODEL_VOICES_COMMIT}",
    "rafael": f"{_MODEL_REPOSITORY}/g-Vi8PgmSY0-enhanced-v2.wav@{_MODEL_VOICES_COMMIT}",
    "daan": (f"{_MODEL_REPOSITORY}/cml_tts_nl_11290_9412_000030_0001.flac@2dd944b099d06bb9edbd221fef138685711d9bf0"),
    "estelle": (
        f"{_VOICES_REPOSITORY}/unmute-prod-website/developpeuse-3.wav@1fc7395b7e012e2bbebfca14b942a4ef62ccc899"
    ),
}
"""Name of each built-in voice and the recording it was made from; only a model with cloning can use these."""


def default_text_for_language(language: str | None) -> str:
    """A short text to speak in ``language``; English for None, ``"demo"`` and anything unknown."""
    for stem, text in _TEXTS.items():
        if language is not None and stem in language:
            return text
    return _TEXTS[DEFAULT_LANGUAGE]


def default_voice_for_language(
    language: str | None, config: object | None = None, checkpoint: object | None = None
) -> str:
    """The voice when the user names none: a built-in name, or the address of a recording.

    A custom ``config`` or ``checkpoint`` means other weights, for which the precomputed states of the
    built-in voices are wrong; the recording behind the fallback voice can be cloned by any model.
    """
    if config is not None or checkpoint is not None:
        return PREDEFINED_VOICE_RECORDINGS[_FALLBACK_VOICE]
    if language == DEMO_LANGUAGE:
        return DEMO_LANGUAGE
    for stem, voice in _VOICES.items():
        if language is not None and stem in language:
            return voice
    return _FALLBACK_VOICE


def voices_for_language(language: str) -> tuple[str, ...]:
    """Names of the built-in voices of ``language``.

    Every released model offers every voice, as in upstream; ``"demo"`` has its own one.
    """
    return (DEMO_LANGUAGE,) if language == DEMO_LANGUAGE else tuple(PREDEFINED_VOICE_RECORDINGS)


def predefined_voice_address(language: str, name: str) -> str:
    """Address (for :func:`pockettts_fast.hub.resolve`) of the saved state of voice ``name`` for ``language``.

    Raises:
        VoiceError: ``name`` is no built-in voice of this language.
    """
    names = voices_for_language(language)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}."
        raise VoiceError(f"No built-in voice of language {language!r} is called {name!r}: {hint}")
    if language == DEMO_LANGUAGE:
        return f"package://demo/voices/{name}.safetensors"
    return f"{_STATES_REPOSITORY}/languages/{language}/embeddings/{name}.safetensors@{_STATES_COMMIT}"
