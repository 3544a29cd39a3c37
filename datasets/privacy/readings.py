"""What the bytes of a header may say, whatever encoding it declares.

Without a declaration DICOM is ASCII (PS3.5, 6.1.2), and yet names stand in such headers in UTF-8
or in a Windows encoding, as they do where Latin-1 is declared.
"""

import re
import unicodedata
from collections.abc import Sequence

_GUESSES = ("cp1252", "cp1250", "cp1254", "cp1251", "koi8_r")
_WORD = re.compile(r"[^ \t\r\n^=,;\\]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_SIGNS = frozenset("’‘“”„«»–—№°´·\xa0")
_NO_LETTER = re.compile("[\x80-\xa9\xab-\xb1\xb6\xb8\xbb\xbf\ufffd]")
"""What a letter becomes in the wrong encoding, and no name holds."""
_SHORT = 5  # a word of accented letters only, read wrongly, equals an ordinary one if it is shorter


def other_readings(raw: bytes) -> list[str]:
    """Every plausible meaning of a value's bytes, beside the one that its header declares.

    UTF-8 if the bytes are valid, which nothing else is by chance; otherwise the Windows encodings
    of Europe, and KOI8-R, where they give words of one alphabet. Bytes with escape sequences are
    read as Japanese.

    Args:
        raw: the value as it stands in the file.

    Returns:
        Distinct texts; none for ASCII, which means the same everywhere.
    """
    if b"\x1b" in raw:
        guesses = [_decoded(raw, "iso2022_jp_2")]
    elif raw.isascii():
        guesses = []
    elif (text := _decoded(raw, "utf-8")) is not None:
        guesses = [text]
    else:
        guesses = [_decoded(raw, encoding) for encoding in _GUESSES]
        guesses = [text for text in guesses if text is not None and _is_plausible(text)]
    return list(dict.fromkeys(text for text in guesses if text is not None))


def as_utf8(text: str) -> str:
    """UTF-8 that was read as cp1252 or Latin-1 throughout, undone; any other text as it is."""
    for encoding in () if text.isascii() else ("cp1252", "latin-1"):
        try:
            return text.encode(encoding).decode()
        except UnicodeError:
            continue
    return text


def whole_words(readings: Sequence[str]) -> list[str]:
    """Several readings of one name without the words that the wrong encoding broke.

    ``SchÃ¤fer`` would otherwise be a person called *fer*, and ``Áîð`` (a Russian name in Latin-1)
    one called *aid*.
    """
    cyrillic = any(_scripts(text) == {"CYRILLIC"} for text in readings)

    def kept(word: re.Match[str]) -> str:
        broken = _NO_LETTER.search(word[0]) or (cyrillic and _is_short(word[0]))
        return "" if broken else word[0]

    cut = (_WORD.sub(kept, text) for text in readings)
    return [text for text in cut if any(c.isalnum() for c in text)]


def _decoded(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_plausible(text: str) -> bool:
    """Whether a text has words of one alphabet each, and no signs that words do not have."""
    if any(not (c.isascii() or c.isalpha() or c in _SIGNS) for c in text):
        return False
    words = _LETTERS.findall(text)
    return all(
        len(scripts := _scripts(word)) == 1
        and not ("CYRILLIC" in scripts and re.search(r"[а-яё][А-ЯЁ]", word))
        for word in words
    )


def _scripts(text: str) -> set[str]:
    return {unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha()}


def _is_short(word: str) -> bool:
    """Whether a word is short and mostly of accented Latin letters."""
    letters = [c for c in word if c.isalpha()]
    accented = sum(not c.isascii() for c in letters)
    return len(letters) < _SHORT and 2 * accented > len(letters) and _scripts(word) == {"LATIN"}
