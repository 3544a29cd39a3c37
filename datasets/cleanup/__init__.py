"""Optional clean-up of report texts: lists, notifications, comparisons, placeholders."""

from arra_med.datasets.cleanup.rules import CleanUp, clean

__all__ = ["CleanUp", "clean"]
