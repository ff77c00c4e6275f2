"""Tokenizers of a few hundred pieces, trained on the spot on sentences in the languages of the models."""

import io
import json
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

SENTENCES = (
    "The morning train was late again, so we walked along the river and talked about the summer.",
    "How many people can sing this song? Nobody knows! Well... perhaps ten, or twenty; maybe more.",
    "Version 3.5 costs $12.99, which is 4.2% less: not bad, I'd say. She paid 1,000.50 in 2024.",
    "Le matin, la rivière était calme ; où étais-tu ? J'ai vu cet été « le grand bleu » à la télévision.",
    "Heute früh war es kühl, aber schön. Möchten Sie einen Kaffee? Nein, danke! Straße, Größe, Übung.",
    "Questa mattina il treno è partito tardi: perché? Perché sì! Va bene... andiamo, però più piano.",
    "¿Dónde está la estación? ¡Allí, al final de la calle! Mañana hará sol, según dicen los niños.",
    "De trein vertrok te laat, zoals altijd. Heb je het gezien? Ja! Zij heeft vijfentwintig boeken gelezen.",
    "Amanhã não há aula, disse a professora. Você gosta de maçã, pão e café? Sim; gosto muito.",
    "0 1 2 3 4 5 6 7 8 9 10 100 3.14 2.71 1.5 0.25 . ! ? , ; : - ( ) [ ] \" ' ’ ‘ “ ” – — …",
)
PIECES = 200
BYTE_PIECES = 256


def vocab_size(byte_fallback: bool) -> int:
    return PIECES + (BYTE_PIECES if byte_fallback else 0)


def sentencepiece_model(kind: str, byte_fallback: bool, **options: object) -> bytes:
    """A serialized SentencePiece model; ``kind`` is ``"unigram"`` or ``"bpe"``."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=model,
        model_type=kind,
        vocab_size=vocab_size(byte_fallback),
        byte_fallback=byte_fallback,
        character_coverage=1.0,
        hard_vocab_limit=True,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return model.getvalue()


def json_tokenizer(model: bytes, byte_fallback: bool, decoder: str = "metaspace") -> tokenizers.Tokenizer:
    """The unigram SentencePiece ``model`` as a ``tokenizers`` pipeline, as conversion scripts build it."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = processor.vocab_size()
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(size)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, processor.unk_id(), byte_fallback))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(tokenizers.Regex(" {2,}"), " "), normalizers.NFKC()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    if decoder == "metaspace":
        tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    else:
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    for name in ("<unk>", "<s>", "</s>"):
        tokenizer.add_special_tokens([tokenizers.AddedToken(name, special=True)])
    return tokenizer


def write_all(folder: Path) -> dict[str, tuple[Path, str, int]]:
    """Every kind of tokenizer as a file: name -> (path, config kind, vocabulary size)."""
    written: dict[str, tuple[Path, str, int]] = {}

    def keep(name: str, content: bytes, kind: str, size: int) -> None:
        path = folder / (name + (".json" if kind == "tokenizers" else ".model"))
        path.write_bytes(content)
        written[name] = (path, kind, size)

    for kind in ("unigram", "bpe"):
        for fallback in (False, True):
            model = sentencepiece_model(kind, fallback)
            name = f"{kind}_{'bytes' if fallback else 'unk'}"
            keep(name, model, "sentencepiece", vocab_size(fallback))
            if kind == "unigram":
                for decoder in ("metaspace", "sequence"):
                    converted = json_tokenizer(model, fallback, decoder)
                    content = json.dumps(json.loads(converted.to_str())).encode()
                    keep(f"json_{name}_{decoder}", content, "tokenizers", converted.get_vocab_size())
    bare = sentencepiece_model("unigram", True, normalization_rule_name="identity", remove_extra_whitespaces=False)
    keep("unigram_identity", bare, "sentencepiece", vocab_size(True))
    return written
