"""Prepared text, chunks and ids equal those of the original package, byte for byte."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from odd_texts import HAND_PICKED, random_text
from pockettts_fast.config import available_languages, language_config_path, load_config
from pockettts_fast.defaults import DEMO_LANGUAGE
from pockettts_fast.errors import TextError
from pockettts_fast.text import TextOptions, _LocalReader, prepare_text, split_text
from pockettts_fast.tokenizer import Tokenizer, load_tokenizer
from small_tokenizers import write_all

pytestmark = pytest.mark.parity

RANDOM_TEXTS = 80


def _language_options() -> dict[str, TextOptions]:
    """One of each different set among the released configurations, and the corners of the schema."""
    options: dict[str, TextOptions] = {}
    for language in available_languages():
        if language != DEMO_LANGUAGE:
            wanted = TextOptions.from_config(load_config(language_config_path(language)))
            if wanted not in options.values():
                options[language] = wanted
    options["plain"] = TextOptions()
    options["raw"] = TextOptions(append_terminal_punctuation=False, capitalize_first_letter=False)
    options["everything"] = TextOptions(
        pad_with_spaces_for_short_inputs=True,
        remove_semicolons=True,
        replace_characters={"a": "", "e": "ee.", "’": "'", '"': "", "5": " 5 ", ".": ".", "😀": ","},
    )
    return options


OPTIONS = _language_options()


def _texts(name: str) -> list[str]:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return [*HAND_PICKED, *(random_text(rng) for _ in range(RANDOM_TEXTS))]


@pytest.fixture(scope="module")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str, int]]:
    pytest.importorskip("pocket_tts")
    return write_all(tmp_path_factory.mktemp("tokenizers"))


def _both(files: dict[str, tuple[Path, str, int]], name: str) -> tuple[Tokenizer, Any]:
    from pocket_tts.modules.text_conditioner import build_tokenizer

    path, kind, size = files[name]
    return load_tokenizer(size, path, kind), build_tokenizer(size, str(path), kind)


def _arguments(options: TextOptions) -> tuple[Any, ...]:
    return (
        options.pad_with_spaces_for_short_inputs,
        options.remove_semicolons,
        options.append_terminal_punctuation,
        options.capitalize_first_letter,
        options.replace_characters,
    )


def _upstream_chunks(
    tokenizer: Any, text: str, options: TextOptions, max_tokens: int
) -> list[tuple[str, list[int], int]] | None:
    """What generate_audio_stream of the original gives its model; None where it raises ValueError at once.

    A chunk on which it would stop in the middle (empty again, or no tokens) is left out, as documented.
    """
    from pocket_tts.models.text_chunking import prepare_text_prompt, split_into_best_sentences

    try:
        texts = split_into_best_sentences(tokenizer, text, max_tokens, *_arguments(options))
    except ValueError:
        return None
    chunks = []
    for chunk in texts:
        try:
            prepared, guess = prepare_text_prompt(chunk, *_arguments(options))
        except ValueError:
            continue
        ids = tokenizer(prepared)[0].tolist()
        if ids:
            chunks.append((prepared, ids, guess + 2))
    return chunks


def _ours(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except TextError:
        return None


@pytest.mark.parametrize("name", OPTIONS)
def test_prepared_text_equals_upstream(name: str) -> None:
    text_chunking = pytest.importorskip("pocket_tts.models.text_chunking")
    options = OPTIONS[name]
    for text in _texts(f"prepare {name}"):
        try:
            prepared, guess = text_chunking.prepare_text_prompt(text, *_arguments(options))
            expected: tuple[str, int] | None = (prepared, guess + 2)
        except ValueError:
            expected = None
        got = _ours(lambda text=text: prepare_text(text, options))
        assert (got and (got.text, got.frames_after_eos)) == expected, repr(text)


TOKENIZERS = (
    "unigram_unk",
    "unigram_bytes",
    "unigram_identity",
    "bpe_unk",
    "bpe_bytes",
    "json_unigram_unk_metaspace",
    "json_unigram_unk_sequence",
    "json_unigram_bytes_metaspace",
    "json_unigram_bytes_sequence",
)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("options_name", OPTIONS)
def test_chunks_and_ids_equal_upstream(
    tokenizer_files: dict[str, tuple[Path, str, int]], name: str, options_name: str
) -> None:
    ours, upstream = _both(tokenizer_files, name)
    options = OPTIONS[options_name]
    seed = f"split {name} {options_name}"
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    for text in _texts(seed):
        max_tokens = int(rng.choice([50, 50, 1, 7, 20, 200]))
        expected = _upstream_chunks(upstream, text, options, max_tokens)
        got = _ours(lambda text=text, limit=max_tokens: split_text(ours, text, options, limit))
        listed = got and [(chunk.text, chunk.token_ids, chunk.frames_after_eos) for chunk in got]
        # No chunk at all is an error here; upstream fails on it later, joining no audio.
        assert listed == (expected or None), (text, max_tokens)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_decimal_check_equals_the_one_that_decodes_everything(
    tokenizer_files: dict[str, tuple[Path, str, int]], name: str
) -> None:
    from pocket_tts.models.text_chunking import _is_decimal_period_boundary

    ours, upstream = _both(tokenizer_files, name)
    for text in _texts(f"decimal {name}"):
        ids = ours.encode(text)
        reader = _LocalReader(ours, ids)
        for cut in range(1, len(ids)):
            assert reader.is_in_decimal(cut) == _is_decimal_period_boundary(ids, cut, upstream), (text, cut)


@pytest.mark.parametrize("name", ["unigram_bytes", "bpe_unk", "json_unigram_bytes_sequence"])
def test_a_long_text_equals_upstream(tokenizer_files: dict[str, tuple[Path, str, int]], name: str) -> None:
    ours, upstream = _both(tokenizer_files, name)
    rng = np.random.default_rng(zlib.crc32(f"long {name}".encode()))
    text = " ".join(random_text(rng) for _ in range(80))
    got = [(c.text, c.token_ids, c.frames_after_eos) for c in split_text(ours, text, TextOptions())]
    assert got == _upstream_chunks(upstream, text, TextOptions(), 50)


def test_tokenizer_choice_equals_upstream(tokenizer_files: dict[str, tuple[Path, str, int]]) -> None:
    for name in TOKENIZERS:
        path, kind, _ = tokenizer_files[name]
        for said in (kind, "sentencepiece" if kind == "tokenizers" else "anything"):
            ours, upstream = _both(tokenizer_files | {name: (path, said, tokenizer_files[name][2])}, name)
            assert type(ours).__name__ == type(upstream).__name__
