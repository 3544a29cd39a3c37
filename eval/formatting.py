"""Numbers as a reader expects them: sensible digits, true minus signs, intervals in words."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

MISSING = "not available"


def finite(value: Any) -> float | None:  # noqa: ANN401 - any JSON value
    """``value`` as a float, or ``None`` when it is absent, not a number or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured value with its 95 % interval; either end may be unknown."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @classmethod
    def read(cls, source: Any) -> Self | None:  # noqa: ANN401 - any JSON value
        """From ``{"value", "low", "high", "n"}``; ``None`` when there is no finite value."""
        if not isinstance(source, Mapping):
            return None
        value = finite(source.get("value"))
        if value is None:
            return None
        n = finite(source.get("n"))
        return cls(
            value=value,
            low=finite(source.get("low")),
            high=finite(source.get("high")),
            n=None if n is None else int(n),
        )

    def times(self, factor: float) -> "Estimate":
        """Value and interval multiplied by a positive ``factor``."""
        return Estimate(
            value=factor * self.value,
            low=None if self.low is None else factor * self.low,
            high=None if self.high is None else factor * self.high,
            n=self.n,
        )

    def rest_of(self, total: float) -> "Estimate":
        """``total - self``: missed per 100 becomes shown per 100."""
        return Estimate(
            value=total - self.value,
            low=None if self.high is None else total - self.high,
            high=None if self.low is None else total - self.low,
            n=self.n,
        )

    def below(self, value: float) -> bool:
        """Whether the interval's upper end is known and lies below ``value``."""
        return self.high is not None and self.high < value

    def includes(self, value: float) -> bool:
        """Whether the interval is known and holds ``value``."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


def decimal(value: float | None, digits: int = 2) -> str:
    """``0.874`` becomes ``0.87``; a negative number gets a true minus, minus zero none."""
    if value is None:
        return MISSING
    text = f"{abs(value):,.{digits}f}"
    negative = value < 0 and any(character in "123456789" for character in text)
    return f"−{text}" if negative else text


def significant(value: float | None, digits: int = 3) -> str:
    """Some significant digits without an exponent: ``0.01234`` becomes ``0.0123``.

    Whole digits are all kept, and no more than six decimals are shown.
    """
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    if abs(value) < 1e-6:
        return "less than 0.000001" if value > 0 else "almost 0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return decimal(value, min(6, max(0, places)))


def percent(value: float | None) -> str:
    """A rate per 100 as a whole number, unless it is under one: ``31.2`` becomes ``31``."""
    if value is None:
        return MISSING
    return decimal(value, 1 if 0 < abs(value) < 0.95 else 0)


def interval(estimate: Estimate | None, digits: int = 2) -> str:
    """``0.81 to 0.92``; empty when there is no interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{decimal(estimate.low, digits)} to {decimal(estimate.high, digits)}"


def shared_places(estimate: Estimate, digits: int = 3) -> int:
    """Decimal places that show the largest of value and ends with ``digits`` digits."""
    ends = [estimate.value, estimate.low or 0.0, estimate.high or 0.0]
    largest = max(abs(end) for end in ends)
    if largest == 0:
        return 2
    return min(6, max(0, digits - 1 - math.floor(math.log10(largest))))


def with_interval(estimate: Estimate | None, digits: int | None = 2) -> str:
    """``0.87 (0.81 to 0.92)``; ``digits=None`` chooses them by size."""
    if estimate is None:
        return MISSING
    places = shared_places(estimate) if digits is None else digits
    ends = interval(estimate, places)
    value = decimal(estimate.value, places)
    return f"{value} ({ends})" if ends else f"{value} (no interval)"


def per_100(estimate: Estimate | None) -> str:
    """A share as ``73 of 100 (66 to 80)``."""
    if estimate is None:
        return MISSING
    rate = estimate.times(100)
    if rate.low is None or rate.high is None:
        return f"{percent(rate.value)} of 100 (no interval)"
    return f"{percent(rate.value)} of 100 ({percent(rate.low)} to {percent(rate.high)})"


def p_words(p: float | None) -> str:
    """``p = 0.02``, ``p < 0.001``; empty when there is none."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def listed(words: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def counted(count: int | None, singular: str, plural: str | None = None) -> str:
    """``1 patient``, ``1,204 patients``; an unknown count is said to be unknown."""
    if count is None:
        return f"an unknown number of {plural or singular + 's'}"
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
