"""From a text to the chunks that the model speaks one at a time.

The model is trained on single sentences: a text is prepared, cut where a sentence ends, and its sentences are
joined again to chunks of at most ``max_tokens``. Every chunk's text and ids equal those of upstream
(``pocket_tts.models.text_chunking`` and ``generate_audio_stream``, 4.0.1), byte for byte.
"""

import logging
import operator
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from pockettts_fast.defaults import MAX_TOKENS_PER_CHUNK
from pockettts_fast.errors import TextError

if TYPE_CHECKING:
    from pockettts_fast.config import Config
    from pockettts_fast.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_SENTENCE_MARKS = ".!?\u2026"
_WEAK_MARKS = ",;:-\u2013\u2014"
_CLOSERS = "\"'\u201d\u2019)]\u00bb"
_STRAY_MARK = re.compile(r"([.!?\u2026])\s*[,;:]")
_SURROGATE = re.compile("[\ud800-\udfff]")

# What the tokenizer makes of these, less the first id, are the ids a text is cut behind. The first id is
# dropped because it holds the word-start mark; a sentence end inside a text has none.
_SENTENCE_END_SAMPLE = ".!...?"
_PAUSE_SAMPLE = ",;:"

_SHORT_TEXT_WORDS = 4
_SHORT_TEXT_PADDING = " " * 8
_FRAMES_AFTER_EOS = 3
_FRAMES_AFTER_EOS_SHORT = 5

_WINDOW_TOKENS = 16


@dataclass(frozen=True)
class TextOptions:
    """How a model wants its text; the fields are those of the configuration, with its defaults."""

    pad_with_spaces_for_short_inputs: bool = False
    remove_semicolons: bool = False
    append_terminal_punctuation: bool = True
    capitalize_first_letter: bool = True
    replace_characters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: "Config") -> "TextOptions":
        return cls(
            pad_with_spaces_for_short_inputs=config.pad_with_spaces_for_short_inputs,
            remove_semicolons=config.remove_semicolons,
            append_terminal_punctuation=config.append_terminal_punctuation,
            capitalize_first_letter=config.capitalize_first_letter,
            replace_characters=config.replace_characters,
        )


@dataclass(frozen=True)
class PreparedText:
    """A text as the model was trained to see it, and how many frames to go on after it ends."""

    text: str
    frames_after_eos: int


@dataclass(frozen=True)
class TextChunk:
    """What the model is given at once.

    Attributes:
        text: the prepared text.
        token_ids: its ids, at least one.
        frames_after_eos: frames to generate after the end of speech is detected; one frame is 80 ms.
    """

    text: str
    token_ids: list[int]
    frames_after_eos: int


def prepare_text(text: str, options: TextOptions) -> PreparedText:
    """Clean ``text`` and end it like a sentence.

    Raises:
        TextError: ``text`` is no string, holds lone surrogates, or nothing of it is left.
    """
    if not isinstance(text, str):
        raise TextError(f"The text is of type {type(text).__name__}: it must be a string.")
    text = text.strip()
    if options.replace_characters:
        text = " ".join(text.translate({ord(old): new for old, new in options.replace_characters.items()}).split())
        # '"Hi?", she said' without its quotes would go on with a comma after the question mark.
        text = _STRAY_MARK.sub(r"\1", text)
    if not text:
        raise TextError("The text is empty: give at least one word.")
    surrogate = _SURROGATE.search(text)
    if surrogate:
        raise TextError(f"The text holds the lone surrogate U+{ord(surrogate[0]):04X}: give valid Unicode text.")
    text = text.replace("\n", " ").replace("\r", " ").replace("  ", " ")
    if options.remove_semicolons:
        text = text.replace(";", ",")
    is_short = len(text.split()) <= _SHORT_TEXT_WORDS
    if options.capitalize_first_letter and not text[0].isupper():
        text = text[0].upper() + text[1:]
    if options.append_terminal_punctuation:
        text = _end_sentence(text)
    # Counted again: the added mark can be a word of its own.
    if options.pad_with_spaces_for_short_inputs and len(text.split()) <= _SHORT_TEXT_WORDS:
        text = _SHORT_TEXT_PADDING + text
    return PreparedText(text, _FRAMES_AFTER_EOS_SHORT if is_short else _FRAMES_AFTER_EOS)


def _end_sentence(text: str) -> str:
    """``text`` with a sentence mark at its end, which may stand before closing quotes and brackets.

    A weak mark becomes a period. Elsewhere the period goes behind the closers, because a quote alone behind a
    period would be cut off as a chunk of its own.
    """
    core = text.rstrip(_CLOSERS + " ")
    if not core or core[-1] in _SENTENCE_MARKS:
        return text
    if core[-1] in _WEAK_MARKS:
        return core.rstrip(_WEAK_MARKS + " ") + "." + text[len(core) :].strip()
    return text + "."


def split_text(
    tokenizer: "Tokenizer",
    text: str,
    options: TextOptions,
    max_tokens: int = MAX_TOKENS_PER_CHUNK,
    frames_after_eos: int | None = None,
) -> list[TextChunk]:
    """The chunks of ``text``, at least one.

    A sentence longer than ``max_tokens`` is cut at commas, semicolons and colons; what is still longer stays
    whole, with a warning in the log. Where upstream stops with an error in the middle of the speech because a
    chunk turns out empty, that chunk is left out.

    Args:
        frames_after_eos: for every chunk, instead of the guess from its number of words.

    Raises:
        TextError: as :func:`prepare_text`; or ``max_tokens`` is no positive integer; or no chunk has a token.
    """
    max_tokens = _positive("max_tokens", max_tokens)
    whole = prepare_text(text, options).text.strip()
    chunks: list[TextChunk] = []
    for chunk_text in _join_segments(_segments(tokenizer, whole, max_tokens), max_tokens):
        if not chunk_text:
            continue
        try:
            prepared = prepare_text(chunk_text, options)
        except TextError:
            logger.debug("Left out a chunk of which nothing is left")
            continue
        token_ids = tokenizer.encode(prepared.text)
        if len(token_ids) > max_tokens:
            logger.warning(
                "A chunk has %d tokens (more than %d), words may be skipped: %.50r",
                len(token_ids),
                max_tokens,
                prepared.text,
            )
        frames = prepared.frames_after_eos if frames_after_eos is None else frames_after_eos
        if token_ids:
            chunks.append(TextChunk(prepared.text, token_ids, frames))
    if not chunks:
        raise TextError("The text holds nothing that the model can speak: give at least one word.")
    return chunks


def _positive(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < 1:
        raise TextError(f"{name} is {value!r}: it must be a positive integer.")
    return number


def _segments(tokenizer: "Tokenizer", text: str, max_tokens: int) -> list[tuple[int, str]]:
    """Sentences of ``text``, and parts of those that are too long: (number of tokens, text)."""
    sentence_ends = frozenset(tokenizer.encode(_SENTENCE_END_SAMPLE)[1:])
    pauses = frozenset(tokenizer.encode(_PAUSE_SAMPLE)[1:])
    ids = tokenizer.encode(text)
    reader = _LocalReader(tokenizer, ids)
    cuts = [cut for cut in _cuts_behind(ids, sentence_ends) if not reader.is_in_decimal(cut)]
    segments: list[tuple[int, str]] = []
    for sentence in _pieces(tokenizer, ids, cuts):
        length, sentence_text = sentence
        if length > max_tokens:
            sentence_ids = tokenizer.encode(sentence_text.strip())
            parts = _pieces(tokenizer, sentence_ids, _cuts_behind(sentence_ids, pauses))
            segments += parts if len(parts) > 1 else [sentence]
        else:
            segments.append(sentence)
    return segments


def _cuts_behind(ids: Sequence[int], marks: Set[int]) -> list[int]:
    """Indices of the ids that follow a run of ``marks``."""
    return [i for i in range(1, len(ids)) if ids[i - 1] in marks and ids[i] not in marks]


def _pieces(tokenizer: "Tokenizer", ids: Sequence[int], cuts: Sequence[int]) -> list[tuple[int, str]]:
    bounds = [0, *cuts, len(ids)]
    return [(end - start, tokenizer.decode(ids[start:end])) for start, end in pairwise(bounds)]


class _LocalReader:
    """Reads the text around a place in a list of ids without decoding all of it.

    The characters next to a cut are those of ``decode(ids[:cut])`` and ``decode(ids[cut:])``, which upstream
    decodes for every cut. Decoding a window gives the same ones if the window's far end does not matter:
    it must not split the bytes of a character (a byte-fallback piece alone decodes to U+FFFD, and in some
    decoders spoils the whole run of byte pieces), and the window must reach beyond what decodes to nothing
    and beyond the white space that is dropped at the start of a text.
    """

    def __init__(self, tokenizer: "Tokenizer", ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = ids
        self._whole_characters: dict[int, bool] = {}

    def is_in_decimal(self, cut: int) -> bool:
        """Whether the text before ``cut`` ends with a digit and a period, and a digit comes next."""
        before = self._before(cut)
        return before[-1:] == "." and before[-2:-1].isdigit() and self._after(cut)[:1].isdigit()

    def _before(self, cut: int) -> str:
        """The end of ``decode(ids[:cut])``: its last two characters at least, if it has them."""
        width = _WINDOW_TOKENS
        while True:
            start = max(0, cut - width)
            while start > 0 and not self._is_whole(self._ids[start]):
                start -= 1
            text = self._tokenizer.decode(self._ids[start:cut])
            if start == 0 or len(text) >= 2:
                return text
            width = 2 * (cut - start)

    def _after(self, cut: int) -> str:
        """The start of ``decode(ids[cut:])``: its first character at least, if it has one."""
        width = _WINDOW_TOKENS
        while True:
            end = min(len(self._ids), cut + width)
            while end < len(self._ids) and not self._is_whole(self._ids[end]):
                end += 1
            text = self._tokenizer.decode(self._ids[cut:end])
            if end == len(self._ids) or text:
                return text
            width = 2 * (end - cut)

    def _is_whole(self, token: int) -> bool:
        """Whether ``token`` is more than a part of a character, so that a window may start with it."""
        whole = self._whole_characters.get(token)
        if whole is None:
            whole = self._whole_characters[token] = "\ufffd" not in self._tokenizer.decode([token])
        return whole


def _join_segments(segments: Sequence[tuple[int, str]], max_tokens: int) -> list[str]:
    """Texts of as many segments in a row as ``max_tokens`` allows."""
    chunks: list[str] = []
    joined, joined_length = "", 0
    for length, text in segments:
        if joined and joined_length + length > max_tokens:
            chunks.append(joined.strip())
            joined = ""
        joined, joined_length = (f"{joined} {text}", joined_length + length) if joined else (text, length)
    if joined:
        chunks.append(joined.strip())
    return chunks
