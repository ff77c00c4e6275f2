"""The released configurations and the facts beside them are those of the original package."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pockettts_fast import defaults
from pockettts_fast.config import (
    CONFIGS_DIR,
    available_languages,
    config_from_dict,
    config_to_dict,
    language_config_path,
    load_config,
)
from pockettts_fast.errors import ConfigError

pytestmark = pytest.mark.parity

LANGUAGES = [name for name in available_languages() if name != defaults.DEMO_LANGUAGE]


def _upstream_folder() -> Path:
    return Path(pytest.importorskip("pocket_tts.utils.config").CONFIGS_DIR)


def _plain(value: Any) -> Any:
    """Tuples as lists, so that both libraries' dumps compare."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_the_released_languages_are_all_there() -> None:
    assert sorted(path.stem for path in _upstream_folder().glob("*.yaml")) == LANGUAGES
    assert len(LANGUAGES) == 27


@pytest.mark.parametrize("language", LANGUAGES)
def test_released_configuration_has_the_same_facts(language: str) -> None:
    theirs = _upstream_folder() / f"{language}.yaml"
    ours = CONFIGS_DIR / f"{language}.yaml"
    assert yaml.safe_load(ours.read_text("utf-8")) == yaml.safe_load(theirs.read_text("utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_loaded_configuration_equals_upstream_with_its_defaults(language: str) -> None:
    upstream = pytest.importorskip("pocket_tts.utils.config")
    theirs = upstream.load_config(_upstream_folder() / f"{language}.yaml")
    ours = load_config(language_config_path(language))
    assert _plain(config_to_dict(ours)) == _plain(theirs.model_dump())


def test_every_key_that_upstream_requires_or_refuses_is_treated_alike() -> None:
    upstream = pytest.importorskip("pocket_tts.utils.config")
    pydantic = pytest.importorskip("pydantic")
    language = "english_2m_2026-10"

    def fails_upstream(data: Any) -> bool:
        try:
            upstream.Config(**data)
        except pydantic.ValidationError:
            return True
        return False

    def fails_here(data: Any) -> bool:
        try:
            config_from_dict(data, "test")
        except ConfigError as err:
            return "missing" in str(err) or "unknown" in str(err)
        return False

    def places(data: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = [path]
        for key, value in data.items():
            found += places(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]
        return found

    def fresh() -> Any:
        return yaml.safe_load((CONFIGS_DIR / f"{language}.yaml").read_text("utf-8"))

    # Optional parts whose absence leaves widths that do not fit together: those are another rule's business.
    coupled = {("mimi", "decoder_seanet"), ("mimi", "decoder_transformer"), ("mimi", "outer_dim")}
    coupled |= {("flow_lm", "transformer", "attn_dim")}
    for path in places(fresh()):
        if path and path not in coupled and path[0] != "replace_characters":
            data = fresh()
            parent = data
            for key in path[:-1]:
                parent = parent[key]
            value = parent.pop(path[-1])
            assert fails_here(data) == fails_upstream(data), path
            if isinstance(value, dict):
                parent[path[-1]] = {**value, "surplus": 1}
                assert fails_here(data), path
                assert fails_upstream(data), path


def test_defaults_equal_upstream() -> None:
    theirs = pytest.importorskip("pocket_tts.default_parameters")
    model = pytest.importorskip("pocket_tts.models.tts_model").TTSModel
    assert defaults.DEFAULT_LANGUAGE == theirs.DEFAULT_LANGUAGE
    assert defaults.DEFAULT_TEMPERATURE == theirs.DEFAULT_TEMPERATURE
    assert defaults.DEFAULT_SAMPLER_DECODE_STEPS == theirs.DEFAULT_SAMPLER_DECODE_STEPS
    assert defaults.DEFAULT_NOISE_CLAMP == theirs.DEFAULT_NOISE_CLAMP
    assert defaults.DEFAULT_EOS_THRESHOLD == theirs.DEFAULT_EOS_THRESHOLD
    assert defaults.DEFAULT_FRAMES_AFTER_EOS == theirs.DEFAULT_FRAMES_AFTER_EOS
    assert defaults.MAX_TOKENS_PER_CHUNK == theirs.MAX_TOKEN_PER_CHUNK
    assert defaults.MIN_FRAMES_BEFORE_EOS == model._MIN_FRAMES_BEFORE_EOS
    assert defaults.TOKENS_PER_SECOND_ESTIMATE == model._TOKENS_PER_SECOND_ESTIMATE
    assert defaults.GENERATION_SECONDS_PADDING == model._GEN_SECONDS_PADDING


def test_texts_and_voices_equal_upstream() -> None:
    theirs = pytest.importorskip("pocket_tts.default_parameters")
    voices = pytest.importorskip("pocket_tts.utils.utils")
    assert voices._ORIGINS_OF_PREDEFINED_VOICES == defaults.PREDEFINED_VOICE_RECORDINGS
    for language in [*LANGUAGES, None, "my_french_model", "klingon"]:
        assert defaults.default_text_for_language(language) == theirs.get_default_text_for_language(language)
        for config, checkpoint in ((None, None), ("a.yaml", None), (None, "a.pt")):
            ours = defaults.default_voice_for_language(language, config, checkpoint)
            assert ours == theirs.get_default_voice_for_language(language, config, checkpoint)
    for language in LANGUAGES:
        for name in defaults.voices_for_language(language):
            ours = defaults.predefined_voice_address(language, name)
            assert ours == voices.get_predefined_voice(language, name)
