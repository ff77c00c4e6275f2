"""The two kinds of tokenizer the models use, behind one small interface.

Source: ``pocket_tts.modules.text_conditioner`` (4.0.1). A SentencePiece ``.model`` and a ``tokenizer.json``
converted from it give the same ids.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pockettts_fast import hub
from pockettts_fast.errors import TokenizerError


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, which must hold no lone surrogates."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``."""


class SentencePieceTokenizer:
    """A SentencePiece ``.model`` file; thread-safe.

    Raises:
        TokenizerError: the file is none.
    """

    def __init__(self, path: Path) -> None:
        import sentencepiece

        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor(str(path))
        except (OSError, RuntimeError, ValueError) as err:
            raise TokenizerError(
                f"The tokenizer {path} is no SentencePiece model or is damaged: get the file again."
            ) from err

    @property
    def vocab_size(self) -> int:
        return int(self._processor.vocab_size())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._processor.encode(text, out_type=int)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._processor.decode(list(ids)))


class JsonTokenizer:
    """A ``tokenizer.json`` file of the ``tokenizers`` library; thread-safe.

    Raises:
        TokenizerError: the file is none.
    """

    def __init__(self, path: Path) -> None:
        import tokenizers

        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as err:  # the library raises bare Exception
            raise TokenizerError(
                f"The tokenizer {path} is no tokenizer.json or is damaged: get the file again."
            ) from err

    @property
    def vocab_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))


def load_tokenizer(n_bins: int, address: str | Path, kind: str = "sentencepiece") -> Tokenizer:
    """The tokenizer at ``address``, checked against the size of the embedding table.

    Args:
        n_bins: vocabulary size of the configuration, ``flow_lm.lookup_table.n_bins``.
        address: anything :func:`pockettts_fast.hub.resolve` takes.
        kind: ``flow_lm.lookup_table.tokenizer``. ``"tokenizers"`` and ``"json"`` mean a ``tokenizer.json``,
            and so does an address that ends in ``.json``; everything else is a SentencePiece model.

    Raises:
        MissingFileError, DownloadError: the file cannot be had.
        TokenizerError: the file is damaged, or its vocabulary has another size than ``n_bins``.
    """
    path = hub.resolve(address, what="tokenizer")
    is_json = kind in ("tokenizers", "json") or str(address).split("@")[0].endswith(".json")
    tokenizer: Tokenizer = JsonTokenizer(path) if is_json else SentencePieceTokenizer(path)
    if tokenizer.vocab_size != n_bins:
        raise TokenizerError(
            f"The tokenizer {address} has {tokenizer.vocab_size} pieces, but flow_lm.lookup_table.n_bins is "
            f"{n_bins}: use the tokenizer that the model was trained with."
        )
    return tokenizer
