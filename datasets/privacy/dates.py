"""Birth dates, found in text in every usual spelling."""

import re
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


def birth_dates(value: str) -> list[date]:
    """The date of a DICOM birth date (``19610412``) or another spelling; 1900 stands for none."""
    digits = re.findall(r"\d+", value)
    if len(digits) == 1 and len(digits[0]) == 8:
        digits = [digits[0][:4], digits[0][4:6], digits[0][6:]]
    if len(digits) < 3:
        return []
    one, two, three = map(int, digits[:3])
    orders = [(one, two, three)] if one > 31 else [(three, two, one), (three, one, two)]
    days = []
    for year, month, day in orders:
        try:
            days.append(date(year, month, day))
        except ValueError:
            continue
    return [day for day in dict.fromkeys(days) if day != date(1900, 1, 1)]


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
