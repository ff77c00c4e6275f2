import dataclasses
import json
import logging
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from odd_texts import HAND_PICKED, random_text
from pockettts_fast.config import language_config_path, load_config
from pockettts_fast.errors import MissingFileError, TextError, TokenizerError
from pockettts_fast.text import TextChunk, TextOptions, prepare_text, split_text
from pockettts_fast.tokenizer import JsonTokenizer, SentencePieceTokenizer, Tokenizer, load_tokenizer
from small_tokenizers import write_all

Files = dict[str, tuple[Path, str, int]]

PLAIN = TextOptions()
RAW = TextOptions(append_terminal_punctuation=False, capitalize_first_letter=False)
FRENCH = TextOptions.from_config(load_config(language_config_path("french")))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_all(tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(
    params=[
        "unigram_unk",
        "bpe_bytes",
        "unigram_identity",
        "json_unigram_unk_metaspace",
        "json_unigram_bytes_sequence",
    ]
)
def tokenizer(request: pytest.FixtureRequest, files: Files) -> Tokenizer:
    path, kind, size = files[request.param]
    return load_tokenizer(size, path, kind)


@pytest.fixture
def plain_tokenizer(files: Files) -> Tokenizer:
    path, kind, size = files["unigram_bytes"]
    return load_tokenizer(size, path, kind)


# Preparation


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("hello", "Hello."),
        ("Hello!", "Hello!"),
        ("hello…", "Hello…"),
        ("hello,", "Hello."),
        ("hello - ", "Hello."),
        ("hello –,;:", "Hello."),
        ('she said "hello"', 'She said "hello".'),
        ('she said "hello!"', 'She said "hello!"'),
        ('she said "hello,"', 'She said "hello."'),
        ("(an aside, )", "(an aside.)"),
        ('"', '"'),
        ("...", "..."),
        ("3.5", "3.5."),
        ("ßa", "SSa."),
        ("a\nb\r\nc", "A b c."),
        ("a   b", "A  b."),
        ("a\tb", "A\tb."),
        ("\u00a0a\u00a0", "A."),
        ("a\x00b", "A\x00b."),
    ],
)
def test_a_text_becomes_a_sentence(text: str, prepared: str) -> None:
    assert prepare_text(text, PLAIN).text == prepared


def test_what_the_options_switch_off_stays() -> None:
    assert prepare_text(" hello; you ", RAW).text == "hello; you"
    assert prepare_text("a; b", dataclasses.replace(RAW, remove_semicolons=True)).text == "a, b"


def test_short_texts_are_padded_where_the_model_wants_it() -> None:
    padded = TextOptions(pad_with_spaces_for_short_inputs=True)
    assert prepare_text("one two three four", padded).text == "        One two three four."
    assert prepare_text("one two three four five", padded).text == "One two three four five."


def test_characters_are_replaced_before_anything_else() -> None:
    assert prepare_text('"Oui?", dit-elle', FRENCH).text == "Oui? dit-elle."
    assert prepare_text("«\u00a0Bonjour\u00a0» : (toi)", FRENCH).text == "Bonjour , toi."
    assert prepare_text("L’été – là", FRENCH).text == "L'été , là."


@pytest.mark.parametrize(("words", "frames"), [(1, 5), (4, 5), (5, 3), (50, 3)])
def test_short_texts_go_on_for_more_frames(words: int, frames: int) -> None:
    assert prepare_text("word " * words, PLAIN).frames_after_eos == frames


@pytest.mark.parametrize("text", ["", " ", "\n\t\r", "\u00a0\u3000"])
def test_an_empty_text_is_refused(text: str, plain_tokenizer: Tokenizer) -> None:
    for options in (PLAIN, RAW, FRENCH):
        with pytest.raises(TextError, match="empty"):
            prepare_text(text, options)
        with pytest.raises(ValueError, match="empty"):
            split_text(plain_tokenizer, text, options)


def test_a_text_of_deleted_characters_only_is_refused() -> None:
    with pytest.raises(TextError, match="empty"):
        prepare_text(' " « » ', FRENCH)


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff", "pair \ud83d\ude00", "caf\udce9"])
def test_lone_surrogates_are_refused(text: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match="surrogate"):
        split_text(tokenizer, text, PLAIN)


@pytest.mark.parametrize("text", [None, b"bytes", 3, ["a"]])
def test_what_is_no_string_is_refused(text: object) -> None:
    with pytest.raises(TextError, match="string"):
        prepare_text(text, PLAIN)  # type: ignore[arg-type]


# Splitting


def _texts(chunks: Sequence[TextChunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


def test_a_short_text_is_one_chunk(tokenizer: Tokenizer) -> None:
    (chunk,) = split_text(tokenizer, "the train was late", PLAIN)
    assert chunk == TextChunk("The train was late.", tokenizer.encode("The train was late."), 5)
    assert all(type(token) is int for token in chunk.token_ids)


def test_sentences_are_cut_apart_and_joined_up_to_the_limit(tokenizer: Tokenizer) -> None:
    text = "It was late. We walked! Did we talk? Well... nobody knows."
    sentences = ["It was late.", "We walked!", "Did we talk?", "Well...", "Nobody knows."]
    assert _texts(split_text(tokenizer, text, PLAIN, 1)) == sentences
    assert _texts(split_text(tokenizer, text, PLAIN, 1000)) == [text]
    two = len(tokenizer.encode("It was late. We walked!"))
    assert _texts(split_text(tokenizer, text, PLAIN, two))[0] == "It was late. We walked!"


def test_a_decimal_is_not_a_sentence_end(tokenizer: Tokenizer) -> None:
    text = "It costs 3.5 or 10.25. We paid 1,000.50! 2 people knew."
    expected = ["It costs 3.5 or 10.25.", "We paid 1,000.50!", "2 people knew."]
    assert [t for t in _texts(split_text(tokenizer, text, PLAIN, 24)) if "." in t[:-1]]
    assert " ".join(_texts(split_text(tokenizer, text, PLAIN, 1000))) == " ".join(expected)
    for part in ("3.5", "10.25", "1,000.50"):
        assert any(part in chunk for chunk in _texts(split_text(tokenizer, text, PLAIN, 24)))


def test_a_long_sentence_is_cut_at_its_pauses(tokenizer: Tokenizer) -> None:
    text = "the train was late, so we walked; we talked about the summer: nobody knows"
    chunks = _texts(split_text(tokenizer, text, PLAIN, 12))
    assert len(chunks) >= 3
    assert chunks[0] == "The train was late."


def test_a_sentence_without_pauses_stays_whole_with_a_warning(
    plain_tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pockettts_fast.text"):
        (chunk,) = split_text(plain_tokenizer, "we walked along the river " * 20, PLAIN)
    assert len(chunk.token_ids) > 50
    assert "more than 50" in caplog.text


def test_every_chunk_is_prepared_like_a_text_of_its_own(plain_tokenizer: Tokenizer) -> None:
    options = TextOptions(pad_with_spaces_for_short_inputs=True)
    chunks = split_text(plain_tokenizer, "it was late. we walked along the river and talked.", options, 1)
    assert _texts(chunks) == ["        It was late.", "We walked along the river and talked."]
    assert [chunk.frames_after_eos for chunk in chunks] == [5, 3]


def test_the_caller_may_fix_the_frames_after_the_end(plain_tokenizer: Tokenizer) -> None:
    chunks = split_text(plain_tokenizer, "It was late. We walked.", PLAIN, 1, frames_after_eos=0)
    assert [chunk.frames_after_eos for chunk in chunks] == [0, 0]


@pytest.mark.parametrize("max_tokens", [0, -1, 2.5, "50", None, True])
def test_a_limit_that_is_no_positive_integer_is_refused(max_tokens: object, plain_tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match="max_tokens"):
        split_text(plain_tokenizer, "Hello.", PLAIN, max_tokens)  # type: ignore[arg-type]


def test_a_numpy_integer_is_a_limit(plain_tokenizer: Tokenizer) -> None:
    assert len(split_text(plain_tokenizer, "It was late. We walked.", PLAIN, np.int64(1))) == 2  # type: ignore[arg-type]


def test_any_text_gives_chunks_or_a_text_error(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> None:
    rng = np.random.default_rng(zlib.crc32(request.node.name.encode()))
    for text in [*HAND_PICKED, *(random_text(rng) for _ in range(60))]:
        for options in (PLAIN, RAW, FRENCH):
            try:
                chunks = split_text(tokenizer, text, options, int(rng.choice([1, 10, 50])))
            except TextError:
                continue
            assert chunks
            for chunk in chunks:
                assert chunk.token_ids == tokenizer.encode(chunk.text)
                assert chunk.token_ids
                assert chunk.text.strip()


def test_chunks_joined_again_hold_every_word(tokenizer: Tokenizer) -> None:
    text = " ".join(text for text in HAND_PICKED if text.isascii() and text.replace(" ", "").isalnum())
    joined = " ".join(_texts(split_text(tokenizer, text, RAW, 20)))
    assert joined.split() == tokenizer.decode(tokenizer.encode(text)).split()


@pytest.mark.parametrize(
    "text",
    [
        "The train was late. " * 5000,
        ". a" * 33_000,
        "1.5 " * 25_000,
        "a" * 100_000,
        "😀. 3" * 20_000,
        "<s>. 5" * 16_000,
    ],
    ids=["prose", "periods", "decimals", "one word", "bytes", "control pieces"],
)
def test_a_hundred_thousand_characters_take_about_a_second(
    tokenizer: Tokenizer, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "pockettts_fast.text")
    started = time.process_time()
    split_text(tokenizer, text, PLAIN)
    # 0.1 to 0.5 s on a slow machine; decoding everything at every cut would take minutes.
    assert time.process_time() - started < 5


# Tokenizers


def test_the_kind_or_else_the_suffix_chooses_the_tokenizer(files: Files, tmp_path: Path) -> None:
    json_path, _, json_size = files["json_unigram_unk_metaspace"]
    model_path, _, model_size = files["unigram_unk"]
    assert isinstance(load_tokenizer(json_size, json_path, "tokenizers"), JsonTokenizer)
    assert isinstance(load_tokenizer(json_size, str(json_path), "sentencepiece"), JsonTokenizer)
    assert isinstance(load_tokenizer(model_size, model_path, "sentencepiece"), SentencePieceTokenizer)
    assert isinstance(load_tokenizer(model_size, model_path, "anything"), SentencePieceTokenizer)
    bare = tmp_path / "tokenizer"
    bare.write_bytes(json_path.read_bytes())
    assert isinstance(load_tokenizer(json_size, bare, "json"), JsonTokenizer)


def test_both_kinds_give_the_same_ids_for_words_in_the_vocabulary(files: Files) -> None:
    text = "The train was late again, so we walked. Perché? Größe!"
    ids = []
    for name in ("unigram_bytes", "json_unigram_bytes_sequence"):
        path, kind, size = files[name]
        ids.append(load_tokenizer(size, path, kind).encode(text))
    assert ids[0] == ids[1]


@pytest.mark.parametrize("name", ["unigram_unk", "json_unigram_unk_metaspace"])
def test_another_vocabulary_size_names_both(files: Files, name: str) -> None:
    path, kind, size = files[name]
    with pytest.raises(TokenizerError, match=rf"has {size} pieces.* 4000"):
        load_tokenizer(4000, path, kind)


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizers"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 200, b"{}", json.dumps({"model": 1}).encode()])
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.bin"):
        load_tokenizer(100, path, kind)


@pytest.mark.parametrize("name", ["unigram_unk", "json_unigram_unk_metaspace"])
def test_a_truncated_tokenizer_is_refused(files: Files, tmp_path: Path, name: str) -> None:
    path, kind, size = files[name]
    content = path.read_bytes()
    cut = tmp_path / path.name
    for length in (1, len(content) // 3, len(content) - 100):
        cut.write_bytes(content[:length])
        with pytest.raises(TokenizerError):
            load_tokenizer(size, cut, kind)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"tokenizer.*nowhere"):
        load_tokenizer(100, tmp_path / "nowhere.model")
    with pytest.raises(MissingFileError, match="folder"):
        load_tokenizer(100, tmp_path)
