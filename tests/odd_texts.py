"""Texts that are hard to prepare and to split: hand-picked ones, and random ones of the same ingredients."""

import numpy as np

from small_tokenizers import SENTENCES

HAND_PICKED = (
    "Hello",
    "hello world",
    "a b c d",
    "a b c d e",
    "one two three four five six",
    "  leading and trailing  ",
    "line one\nline two\r\nline three\rline four",
    "tab\tseparated\twords",
    "two  spaces   three    four",
    "ends with comma,",
    "ends with dash -",
    "ends with dashes –—",
    "ends with colon:)",
    'She said "hello"',
    'She said "hello."',
    'She said "hello,"',
    "(in brackets)",
    "[in brackets,]",
    "«Bonjour», dit-il",
    "“Hi?”, she said; “no!” : ok",
    '"Hi?", she said',
    "...",
    ". . .",
    "!?",
    ".!...?",
    ",;:",
    "-",
    ")",
    "'\"')]»",
    "’",
    "' '",
    "?,",
    "….,;",
    "3.5",
    "3. 5",
    "Pi is 3.14159. Two is 2. 3 is more.",
    "v1.2.3.4 and 10.0.0.1. Then 5.",
    "It costs $12.99. 13 is less! 0.5? .5 5. 5.5.5",
    "²³.⁵ and ٣.٤ and ५.६ x",
    "Mr. Smith went to 3.5 Main St. He left... Did he?! Yes!!! No.",
    "https://example.org/a.b?c=d&e=f.g and user@mail.example.org.",
    "# Title\n\n* item one\n* item *two*\n\n```code```",
    "[pause:1e9] <break time='1s'/> &amp; &lol9;",
    "<s> </s> <unk> ▁ ▁▁ <0x41> <pad>",
    "ß starts",
    "ŉ starts",
    "ǆ starts",
    "éa combining e\u0301\u0302\u0303",
    "Z\u0300\u0301\u0302\u0303\u0304\u0305\u0306 stacked",
    "emoji 😀 and 👩‍👩‍👧‍👦 family. 🇫🇷! ok",
    "😀",
    "😀. 3",
    "漢字かな交じり文。次の文！三つ目？",
    "שלום עולם. مرحبا بالعالم؟",
    "नमस्ते दुनिया। कैसे हो",
    "null \x00 and control \x01\x02\x1b[31m red",
    "\x00",
    "\x85\u2028\u2029 separators",
    "zero\u200bwidth\u200d and soft\u00adhyphen \ufeff bom",
    "\u200b",
    "Hello. \u200b",
    "nbsp\u00a0here\u202fand\u3000there",
    "\ufffd. 5\ufffd.5",
    "ﬁ ligature ½ ℌ ① Ａ",
    "a;b;c; d",
    ";",
    "¿Qué? ¡Sí! ¿",
    "„Gut“, sagte er: ‚Ja‘.",
    "word " * 80,
    "word, " * 60,
    "word; word: " * 30,
    "no pause in a very long sentence " * 12,
    "a" * 500,
    "1." * 200,
    "1.5 " * 100,
    ". " * 100,
    "!" * 300,
    "x." * 100,
    "5 . 5 ." * 20,
    "e\u0301" * 200,
    "😀" * 100,
    "😀.5" * 40,
    "<s>" * 60 + ". 5",
    "5.<s><s><s>5 and 5" + "<s>" * 40 + ".5",
    " ".join(SENTENCES),
)

_INGREDIENTS = (
    *" " * 12,
    *"..!?…,;:-–—",
    *"\"'“”‘’«»()[]",
    *"0123456789",
    ". ",
    "...",
    ".5",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "\u00a0",
    "\x00",
    "\x07",
    "\u200b",
    "\u0301",
    "😀",
    "漢",
    "٣",
    "²",
    "é",
    "É",
    "ß",
    "▁",
    "<s>",
    "</s>",
    "<unk>",
    "<0x41>",
    "\ufffd",
    "a",
    "B",
    "the",
    " of",
    " was",
    " più",
)


def random_text(rng: np.random.Generator) -> str:
    """One of four kinds: ingredients only, words with odd marks, any code points, or a whole paragraph."""
    kind = rng.integers(4)
    if kind == 0:
        return "".join(rng.choice(_INGREDIENTS, rng.integers(1, 60)))
    words = np.array([word for sentence in SENTENCES for word in sentence.split()])
    if kind == 1:
        parts = [
            str(rng.choice(words)) + (str(rng.choice(_INGREDIENTS)) if rng.random() < 0.4 else " ")
            for _ in range(rng.integers(1, 80))
        ]
        return "".join(parts)
    if kind == 2:
        points = rng.integers(0, [0x80, 0x800, 0x3000, 0x20000][rng.integers(4)], rng.integers(1, 80))
        return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
    return " ".join(rng.choice(words, rng.integers(1, 200)))
