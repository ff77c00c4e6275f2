"""A built-in vocabulary of any size for synthetic tokenizers.

Pieces are those of a unigram model over text in which "▁" stands for a space: an unknown piece, letters and
punctuation, English words by falling frequency, endings, then syllables made by rule. English text comes to
about three tokens for two words with a thousand pieces or more.
"""

import itertools
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pockettts_fast.errors import ConfigError

_SPACE = "▁"
_UNKNOWN = "<unk>"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FIRST_CHARACTERS = _SPACE + _LETTERS + ".,?!'-"
_MORE_CHARACTERS = (
    _LETTERS.upper() + "0123456789" + ':;"()%&/$€' + "éèêëàâäáãçîïíìôöóòõùûüúñßœæ" + "ÉÈÀÄÖÜÇ" + "–—’‘“”…"
)
_WORDS = """
the of and to in is it you that he was for on are with as I his they be at one have this from or had by hot
but some what there we can out other were all your when up use word how said an each she which do their time
if will way about many then them would write like so these her long make thing see him two has look more day
could go come did my sound no most number who over know water than call first people may down side been now
find any new work part take get place made live where after back little only round man year came show every
good me give our under name very through just form much great think say help low line before turn cause same
mean differ move right boy old too does tell sentence set three want air well also play small end put home
read hand port large spell add even land here must big high such follow act why ask men change went light
kind off need house picture try us again animal point mother world near build self earth father head stand
own page should country found answer school grow study still learn plant cover food sun four thought let
keep eye never last door between city tree cross since hard start might story saw far sea draw left late run
don't while press close night real life few stop open seem together next white children begin got walk
example ease paper often always music those both mark book letter until mile river car feet care second
group carry took rain eat room friend began idea fish mountain north once base hear horse cut sure watch
color face wood main enough plain girl usual young ready above ever red list though feel talk bird soon body
dog family direct pose leave song measure state product black short numeral class wind question happen
complete ship area half rock order fire south problem piece told knew pass farm top whole king size heard
best hour better true during hundred am remember step early hold west ground interest reach fast five sing
listen six table travel less morning ten simple several vowel toward war lay against pattern slow center
love person money serve appear road map science rule govern pull cold notice voice fall power town fine
certain fly unit lead cry dark machine note wait plan figure star box noun field rest correct able pound
done beauty drive stood contain front teach week final gave green oh quick develop sleep warm free minute
strong special mind behind clear tail produce fact street inch lot nothing course stay wheel full force blue
object decide surface deep moon island foot yet busy test record boat common gold possible plane age dry
wonder laugh thousand ago ran check game shape yes cool miss brought heat snow bed bring sit perhaps fill
east weight language among hello computer speech model world's it's I'm you'll can't isn't won't that's
today please thank welcome sorry
"""
_ENDINGS = """
s ing ed er ly es tion ness ment able ful less est al ic ous ive ity ion en ure ance ence ist ism ize ate
ward 's 'll n't 're 've th re un in de con com pro ex dis mis over st ch sh wh ck ng ll ss tt ee oo ea ou ai
ay ow
"""
_CONSONANTS = "tnsrldmcpbghfwvkjzy"
_VOWELS = "eaiouy"


def vocabulary(n_bins: int) -> list[tuple[str, float]]:
    """Exactly ``n_bins`` different pieces with their log probabilities, the unknown piece first.

    Raises:
        ConfigError: fewer pieces than the letters and the punctuation take.
    """
    least = 1 + len(_FIRST_CHARACTERS)
    if n_bins < least:
        raise ConfigError(f"A synthetic tokenizer needs at least {least} pieces, and {n_bins} were asked for.")
    scores: dict[str, float] = {_UNKNOWN: 0.0}
    for piece, score in _scored_pieces():
        if len(scores) == n_bins:
            break
        scores.setdefault(piece, score)
    return list(scores.items())


def make_tokenizer_json(n_bins: int, path: str | Path) -> Path:
    """Write a ``tokenizer.json`` (Unigram and Metaspace, as converted from SentencePiece); returns its path.

    Raises:
        ConfigError: see :func:`vocabulary`.
    """
    metaspace = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": metaspace,
        "post_processor": None,
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocabulary(n_bins), "byte_fallback": False},
    }
    path = Path(path)
    path.write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    return path


def make_sentencepiece_model(n_bins: int, path: str | Path) -> Path:
    """Write the same vocabulary as a SentencePiece ``.model`` file; returns its path.

    The file is a protocol buffer (``sentencepiece_model.proto``): pieces are field 1, the trainer's facts
    field 2, the normaliser's field 3.

    Raises:
        ConfigError: see :func:`vocabulary`.
    """
    normal, unknown, unigram = 1, 2, 1
    message = bytearray()
    for index, (piece, score) in enumerate(vocabulary(n_bins)):
        kind = unknown if index == 0 else normal
        body = _field(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + _field(3, kind)
        message += _field(1, body)
    trainer = _field(3, unigram) + _field(4, n_bins) + _field(40, 0)
    for no_such_piece in (41, 42, 43):  # begin, end and padding
        trainer += _field(no_such_piece, -1)
    message += _field(2, trainer)
    add_dummy_prefix, remove_extra_spaces, escape_spaces = _field(3, 1), _field(4, 0), _field(5, 1)
    message += _field(3, _field(1, b"identity") + add_dummy_prefix + remove_extra_spaces + escape_spaces)
    path = Path(path)
    path.write_bytes(bytes(message))
    return path


def _field(number: int, value: int | bytes) -> bytes:
    """One protocol buffer field: an integer as varint, bytes with their length."""
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _scored_pieces() -> Iterator[tuple[str, float]]:
    for character in _FIRST_CHARACTERS:
        yield character, -5.0
    for character in _MORE_CHARACTERS:
        yield character, -8.0
    capitals = []
    for rank, word in enumerate(_WORDS.split()):
        score = -4.0 - math.log(rank + 1)
        yield _SPACE + word, score
        if rank < 150 and rank % 2:
            capitals.append((_SPACE + word.capitalize(), score - 2.0))
    for ending in _ENDINGS.split():
        yield ending, -7.0
    yield from capitals
    for first, second in itertools.product(_CONSONANTS, _VOWELS):
        for piece in (first + second, second + first):
            yield piece, -9.0
            yield _SPACE + piece, -9.5
    for triple in itertools.product(_CONSONANTS, _VOWELS, _CONSONANTS):
        yield "".join(triple), -10.5
        yield _SPACE + "".join(triple), -11.0
    for length in itertools.count(3):
        for letters in itertools.product(_LETTERS, repeat=length):
            yield "".join(letters), -12.0 - length
