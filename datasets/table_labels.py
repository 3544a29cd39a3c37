"""Labels from a table's cells: one column a label, or one column that lists what is present."""

import re
from collections import Counter
from collections.abc import Iterable

from arra_med.datasets.table_options import TableOptions
from arra_med.datasets.tables import NO_VALUE, Row, says_no_value
from arra_med.errors import RequestError
from arra_med.schema import ABSENT, CHEXPERT_LABELS

_VALUES: dict[str, int | None] = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "present", "positive"), 1),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "absent", "negative"), 0),
    **dict.fromkeys(("-1", "-1.0", "uncertain"), -1),
    **dict.fromkeys((*NO_VALUE, "unknown"), None),
}


_LONGEST_LABEL = 80
"""Characters; longer values of a label column are report text."""
_ENOUGH, _OFTEN = 20, 3


class LabelReader:
    """Reads the labels of a row.

    Without label options every sample has the CheXpert labels, all unknown.

    Args:
        options: the table's.
        rows: every well-formed row with its line number; looked through at most once.

    Raises:
        RequestError: naming the first cells that are no labels, or labels that occur nowhere.

    Attributes:
        names: the labels every sample carries.
    """

    def __init__(self, options: TableOptions, rows: Iterable[tuple[int, Row]]) -> None:
        self._columns = options.label_columns()
        self._list_column = options.label_column
        self._unlisted = None if options.empty_label == "unknown" else ABSENT
        self._separator = "|".join(re.escape(one) for one in options.label_separators)
        if self._list_column is not None:
            self.names = self._vocabulary(options, rows)
        elif self._columns:
            self.names = tuple(self._columns.values())
            self._check(options, rows)
        else:
            self.names = CHEXPERT_LABELS

    def labels(self, row: Row) -> dict[str, int | None]:
        """Label name → 1, 0, -1 or ``None``.

        With a column that lists labels, what a filled cell does not list is absent, and what an
        empty one does not say is unknown unless ``empty_label`` is ``none``.
        """
        if self._list_column is not None:
            listed = self._listed(row)
            return {
                name: (int(name in listed) if listed else self._unlisted) for name in self.names
            }
        if self._columns:
            return {name: _VALUES[row[column].lower()] for column, name in self._columns.items()}
        return dict.fromkeys(self.names)

    def _listed(self, row: Row) -> list[str]:
        cell = row[self._list_column or ""]
        if says_no_value(cell):  # before it is split: "/" may be a separator
            return []
        parts = re.split(self._separator, cell) if self._separator else [cell]
        return [" ".join(part.split()) for part in parts if not says_no_value(part)]

    def _vocabulary(
        self, options: TableOptions, rows: Iterable[tuple[int, Row]]
    ) -> tuple[str, ...]:
        counts = Counter(value for _, row in rows for value in set(self._listed(row)))
        found = set(counts)
        if not found:
            raise RequestError(f"{options.file}: column {self._list_column!r} is empty everywhere")
        alike = Counter(value.casefold() for value in found)
        if twice := [value for value in sorted(found) if alike[value.casefold()] > 1]:
            often = ", ".join(value for value in twice if counts[value] >= _OFTEN)
            raise RequestError(
                f"{options.file}: column {self._list_column!r} lists labels that differ only in "
                f"capitals ({often or f'{len(twice)} rare ones'}): write each in one way"
            )
        long = max(found, key=len)
        if len(long) > _LONGEST_LABEL and options.label_values is None:
            raise RequestError(
                f"{options.file}: column {self._list_column!r} holds values of up to {len(long)} "
                f"characters, more than a label has ({_LONGEST_LABEL}): it looks like text. Name "
                "another column, or the labels wanted in 'label_values'."
            )
        repeated = [value for value, count in counts.items() if count >= _OFTEN]
        if options.label_values is None:
            if counts.total() >= _ENOUGH and len(found) > counts.total() / 2:
                raise RequestError(
                    f"{options.file}: the {counts.total()} values of column {self._list_column!r} "
                    f"are {len(found)} different ones: they look like names or numbers, not "
                    "labels. Name another column, or the labels wanted in 'label_values'."
                )
            return tuple(sorted(found))
        absent = [value for value in options.label_values if value not in found]
        if absent:
            known = [value for value in sorted(repeated) if len(value) <= _LONGEST_LABEL]
            # A value that stands in one or two rows could be a person's name.
            there = f"; often there: {', '.join(known[:20])}" if known else ""
            raise RequestError(
                f"{options.file}: no cell of {self._list_column!r} lists {', '.join(absent)}{there}"
            )
        return options.label_values

    def _check(self, options: TableOptions, rows: Iterable[tuple[int, Row]]) -> None:
        if len(set(self.names)) != len(self.names):
            raise RequestError(f"two columns of {options.file} would give the same label")
        wrong = 0
        first = []
        for number, row in rows:
            for column in self._columns:
                if row[column].lower() not in _VALUES:
                    wrong += 1
                    first += [f"line {number}, column {column!r}"] if wrong <= 3 else []
        if wrong:
            raise RequestError(
                f"{options.file}: {wrong} cells are no labels (expected 1, 0, -1, yes, no or "
                f"empty): {'; '.join(first)}. If the column lists findings in words, use "
                "'label_column'."
            )
