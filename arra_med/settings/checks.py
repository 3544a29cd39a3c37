"""Checks that several sections make of their fields."""

from typing import Any


def positive(settings: Any, *names: str) -> None:  # noqa: ANN401 - any settings dataclass
    """Raise ``ValueError`` unless the fields called ``names`` are positive."""
    wrong = [
        f"{name} must be positive, got {getattr(settings, name)}"
        for name in names
        if getattr(settings, name) <= 0
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


def not_negative(settings: Any, *names: str) -> None:  # noqa: ANN401 - any settings dataclass
    """Raise ``ValueError`` if one of the fields called ``names`` is negative."""
    wrong = [
        f"{name} must not be negative, got {getattr(settings, name)}"
        for name in names
        if getattr(settings, name) < 0
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
