"""Report texts as they come, made plain before anything else reads them.

Names and sections can only be found in plain text. What other programs leave in reports is undone:
HTML, Excel's and HL7's marks for line ends, quoted-printable, UTF-8 read as Latin-1. What cannot be
is refused.
"""

import html
import re

from arra_med.datasets.base import Excluded
from arra_med.datasets.privacy.readings import as_utf8

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_LINE_END = re.compile(r"_x000[dD]_(?:_x000[aA]_|\r?\n)?|_x000[aA]_|\\\.br\\(?:\r?\n)?")
_TAG = re.compile(
    r"</?(?i:p|br|hr|b|i|u|em|strong|font|span|sub|sup|small|big|a|div|center|pre|html|head|body"
    r"|title|meta|style|script|table|tbody|thead|tr|td|th|ul|ol|li|h[1-6]|img|o:p)"
    r"(?:\s+[\w:-]+\s*=[^<>]*|\s*/?\s*)>"
)
_ANY_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_DOCUMENT = re.compile(r"\s*<(?:[!?]|([A-Za-z][\w:.-]*)\b[^<>]*>(?=.*</\1\s*>))", re.DOTALL)
"""What begins with a tag that is closed further down, or says that it is HTML or XML."""
_UNSEEN = re.compile(
    r"<!--.*?-->|<(style|script)\b[^<>]*>.*?</\1\s*>|<[!?][^<>]*>", re.DOTALL | re.IGNORECASE
)
_INLINE = re.compile(r"</?(?i:b|i|u|em|strong|font|span|sub|sup|small|big|a)\b")
_CELL = re.compile(r"</?(?i:td|th)\b")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ESCAPED = 3  # an export of an export escapes what is escaped: &amp;uuml;
_QUOTED = re.compile(r"(?:=[89A-F][0-9A-F]){2,}")


def plain_text(text: str) -> tuple[str, dict[str, int]]:
    """A report's plain text, and what had to be done to get it.

    Tags of HTML become line ends (``<td>`` a space, ``<b>`` and the like nothing), entities the
    characters that they stand for; ``_x000D_`` (Excel) and ``\\.br\\`` (HL7) become line ends. Of
    quoted-printable only UTF-8 (``=C3=BC``) is told from ordinary text with certainty; ``Ã¼`` is
    taken for ``ü`` if the whole text reads so.

    Args:
        text: as a file or a cell has it; one without any of this is given back as it is.

    Returns:
        The text, and which of ``utf8-restored``, ``quoted-printable-read``, ``line-ends-restored``
        and ``html-to-text`` were done → 1.

    Raises:
        Excluded: if it is RTF or holds control characters other than tabs, line and page ends.
    """
    if "{\\rtf1" in text or text.lstrip("\ufeff \t\r\n").startswith("{\\rtf"):
        raise _unreadable("is RTF, as word processors write it")
    steps = {
        "utf8-restored": as_utf8,
        "quoted-printable-read": _without_quoting,
        "line-ends-restored": _with_line_ends,
        "html-to-text": _without_markup,
    }
    edits = {}
    for name, step in steps.items():
        before, text = text, step(text)
        if text != before:
            edits[name] = 1
    control = _CONTROL.search(text)
    if control is not None and control[0] == "\0":
        raise _unreadable("holds zero bytes, as UTF-16 does (for a table, encoding: utf-16-le)")
    if control is not None:
        raise _unreadable(f"holds control characters (U+{ord(control[0]):04X})")
    return text, edits


def _unreadable(what: str) -> Excluded:
    return Excluded("unreadable-report", f"its text {what}: export it as plain text in UTF-8")


def _with_line_ends(text: str) -> str:
    return _LINE_END.sub("\n", text)


def _without_markup(text: str) -> str:
    for _ in range(_ESCAPED):
        before, text = text, _ENTITY.sub(_character, text)
        if text == before:
            break
    if "<" not in text:
        return text
    is_document = _DOCUMENT.match(text)
    tag = _ANY_TAG if is_document else _TAG
    if is_document or tag.search(text):
        text = tag.sub(_space, _UNSEEN.sub("", text))
    return text


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity[0]).replace("\xa0", " ")


def _space(tag: re.Match[str]) -> str:
    if _INLINE.match(tag[0]):
        return ""
    return " " if _CELL.match(tag[0]) else "\n"


def _without_quoting(text: str) -> str:
    joined = re.sub(r"=\r?\n", "", text)
    decoded = _QUOTED.sub(_from_utf8, joined)
    return text if decoded == joined else decoded.replace("=20", " ").replace("=3D", "=")


def _from_utf8(quoted: re.Match[str]) -> str:
    try:
        return bytes.fromhex(quoted[0].replace("=", "")).decode()
    except UnicodeDecodeError:
        return quoted[0]
