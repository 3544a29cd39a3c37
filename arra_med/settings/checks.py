"""Checks that several sections make of their fields."""

import math
from pathlib import Path
from typing import Any


def positive(settings: Any, *names: str) -> None:  # noqa: ANN401 - any settings dataclass
    """Raise ``ValueError`` unless the fields called ``names`` are positive and finite."""
    wrong = [
        f"{name} must be positive, got {getattr(settings, name)}"
        for name in names
        if not 0 < getattr(settings, name) < math.inf
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


def not_negative(settings: Any, *names: str) -> None:  # noqa: ANN401 - any settings dataclass
    """Raise ``ValueError`` if one of the fields called ``names`` is negative or not finite."""
    wrong = [
        f"{name} must be 0 or more, got {getattr(settings, name)}"
        for name in names
        if not 0 <= getattr(settings, name) < math.inf
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


NO_DELIMITER = "'delimiter' must be one character, no quote and no end of line"


def is_no_delimiter(delimiter: str | None) -> bool:
    """Whether what is given as a table's delimiter cannot be one."""
    return delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n')


def text_table(settings: Any, file: Path | None) -> None:  # noqa: ANN401 - any settings dataclass
    """Raise ``ValueError`` if ``encoding`` or ``delimiter`` has no effect, or is none.

    Args:
        settings: has both fields.
        file: that they describe; ``None`` if its name is not known.
    """
    if is_no_delimiter(settings.delimiter):
        raise ValueError(NO_DELIMITER)
    suffix = "" if file is None else file.suffix
    useless = [
        name
        for name, given, without in (
            ("encoding", settings.encoding != "utf-8", (".parquet",)),
            ("delimiter", settings.delimiter is not None, (".parquet", ".txt")),
        )
        if given and suffix in without
    ]
    if useless:
        raise ValueError(f"{' and '.join(useless)} without effect on a {suffix} file: remove it")


MOST_GUIDANCE = 1e4
LEAST_TEMPERATURE = 1e-6


def sampling(settings: Any) -> None:  # noqa: ANN401 - any settings dataclass
    """Raise ``ValueError`` unless ``guidance``, ``temperature``, ``top_k`` and ``top_p`` can draw.

    Numbers beyond these bounds overflow: all codes would be the same.
    """
    not_negative(settings, "temperature", "top_k", "guidance")
    if settings.guidance > MOST_GUIDANCE:
        raise ValueError(f"guidance must be at most {MOST_GUIDANCE:g}, got {settings.guidance}")
    if 0 < settings.temperature < LEAST_TEMPERATURE:
        raise ValueError(
            f"temperature must be 0 or at least {LEAST_TEMPERATURE}, got {settings.temperature}"
        )
    if not 0 < settings.top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {settings.top_p}")
