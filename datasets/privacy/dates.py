"""Birth dates, found in text in every usual spelling."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import date

from arra_med.datasets.privacy.tokens import Span, Token

_DATE_GAP = re.compile(r"(?!_{3})[-/.,\s^_]{0,3}")
_MONTHS = {
    month: number
    for number, names in enumerate(
        (
            "jan januar january janvier enero gennaio janeiro januari",
            "feb februar february fevrier febrero febbraio fevereiro februari fev",
            "mar marz maerz march mars marzo marco maart mrz",
            "apr april avril abril aprile avr abr",
            "may mai mayo maggio maio mei",
            "jun juni june juin junio giugno junho",
            "jul juli july juillet julio luglio julho",
            "aug august aout agosto augustus ago",
            "sep sept september septembre septiembre settembre setembro",
            "oct okt october oktober octobre octubre ottobre outubro",
            "nov november novembre noviembre novembro",
            "dec dez december dezember decembre diciembre dicembre dezembro dic",
        ),
        start=1,
    )
    for month in names.split()
}
_ORDINALS = frozenset({"st", "nd", "rd", "th", "of", "de", "er"})
_TIME_OF_DAY = re.compile(r"[T ]\s*\d{1,2}:\d\d[\d:.]*\s*$")
_LIVED = range(1850, 2101)


def birth_dates(value: str) -> list[date]:
    """The date of a DICOM birth date (``19610412``) or another spelling; 1900 stands for none.

    What may be several days, as 4/12/61, is each of them.
    """
    fields = [word for word in _words(value) if word.isdecimal() or word in _MONTHS]
    if len(fields) == 1 and len(fields[0]) == 8:
        fields = [fields[0][:4], fields[0][4:6], fields[0][6:]]
    if len(fields) < 3:
        return []
    fields = fields[:3]
    year_first = fields[0].isdecimal() and int(fields[0]) > 31
    days = [
        day
        for order in (("ymd",) if year_first else ("dmy", "mdy"))
        for day in _days(**dict(zip(order, fields, strict=True)))
    ]
    return [day for day in dict.fromkeys(days) if day != date(1900, 1, 1)]


def is_date(value: str) -> bool:
    """Whether a value is a date within two lifetimes and, but for a time of day, nothing else."""
    value = _TIME_OF_DAY.sub("", value)
    words = [word for word in _words(value) if word not in _ORDINALS]
    if len(words) != 3 and not (len(words) == 1 and len(words[0]) == 8):
        return False
    only = all(word.isdecimal() or word in _MONTHS for word in words)
    return only and any(day.year in _LIVED for day in birth_dates(value))


def _words(value: str) -> list[str]:
    """Numbers and words, in small letters without accents."""
    plain = unicodedata.normalize("NFKD", value.casefold())
    return re.findall(r"\d+|[^\W\d_]+", re.sub(r"[\u0300-\u036f]", "", plain))


def _days(y: str, m: str, d: str) -> list[date]:
    """The days that three fields may be; a year of two digits is of this century or the last."""
    if not (y.isdecimal() and d.isdecimal()):
        return []
    years = [int(y)] if len(y) > 2 else [1900 + int(y), 2000 + int(y)]
    month = _MONTHS.get(m) or int(m)
    days = []
    for year in years:
        try:
            days.append(date(year, month, int(d)))
        except (ValueError, OverflowError):
            continue
    return days


class DateMatcher:
    """Finds one day in every usual spelling.

    Year first, day first or month first; with separators, compact, or with the month's name
    (English, German, French, Spanish, Italian, Portuguese, Dutch); years of two or four digits.
    """

    def __init__(self, day: date) -> None:
        self._day = day
        year, short = f"{day:%Y}", f"{day:%y}"
        month, number = f"{day:%m}", f"{day:%d}"
        self._compact = {
            "".join(order)
            for y in (year, short)
            for order in ((y, month, number), (number, month, y), (month, number, y))
        }

    def spans(self, text: str, tokens: Sequence[Token]) -> list[Span]:
        """Where it stands in ``text``, whose tokens are ``tokens``."""
        found = []
        free = 0
        for first, token in enumerate(tokens):
            if first < free or token.kind not in ("digits", "letters"):
                continue
            if token.text in self._compact:
                found.append((token.start, token.end))
                free = first + 1
            elif (last := self._last(text, tokens, first)) is not None:
                found.append((token.start, tokens[last].end))
                free = last + 1
        return found

    def _last(self, text: str, tokens: Sequence[Token], first: int) -> int | None:
        fields: list[str] = []
        for last in range(first, min(first + 6, len(tokens))):
            token = tokens[last]
            if last > first and not _DATE_GAP.fullmatch(text, tokens[last - 1].end, token.start):
                return None
            if token.text in _ORDINALS and fields:
                continue
            number = token.kind == "digits" and len(token.text) <= 4
            if not number and token.text not in _MONTHS:
                return None
            fields.append(token.text)
            if len(fields) == 3:
                return last if self._is_day(fields) else None
        return None

    def _is_day(self, fields: Sequence[str]) -> bool:
        day = self._day
        for order in ("ymd", "dmy", "mdy"):
            named = dict(zip(order, fields, strict=True))
            month = named["m"]
            if _MONTHS.get(month, -1) != day.month and not (
                month.isdigit() and len(month) <= 2 and int(month) == day.month
            ):
                continue
            year, number = named["y"], named["d"]
            if not (year.isdigit() and number.isdigit() and len(number) <= 2):
                continue
            full = len(year) == 4 and int(year) == day.year
            short = len(year) == 2 and int(year) == day.year % 100
            if int(number) == day.day and (full or short):
                return True
        return False
