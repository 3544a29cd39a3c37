"""Columns of a table that say who a person is, and ids that a program took for quantities.

Pandas makes fractions of a column with gaps, spreadsheets drop zeros in front and round long ids.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from arra_med.datasets.tables import Row
from arra_med.errors import RequestError

_ROUNDED = re.compile(r"\d+([.,]\d+)?[eE]\+\d+")  # 1.23457E+11, as spreadsheets write long ids
_AS_TEXT = (
    "Write the column as text, one spelling an id (pandas: dtype=str, or astype('Int64'); "
    "spreadsheets: format the column as text before the ids are pasted)"
)


_OF_PATIENT = re.compile(r"^(patienten|patients?|pat|pt)(?=.)")
_PERSONS = {
    "name", "names", "fullname", "surname", "lastname", "familyname", "firstname", "forename",
    "given", "givenname", "middlename", "birthname", "maidenname", "initials", "birthdate",
    "birthday", "dateofbirth", "dob", "born", "mrn", "medicalrecordnumber", "hospitalnumber",
    "nhsnumber", "ssn", "socialsecuritynumber", "insurancenumber", "address", "phone",
    "phonenumber", "telephone", "email", "radiologist", "reader", "physician", "doctor",
    "referrer", "referringphysician", "reportedby", "nachname", "vorname", "familienname",
    "geburtsname", "geburtsdatum", "gebdatum", "geboren", "geb", "geburtstag",
    "versichertennummer", "adresse", "telefon", "befunder", "arzt", "zuweiser", "nom", "prenom",
    "nomdefamille", "datedenaissance", "nombre", "apellido", "apellidos", "fechadenacimiento",
    "cognome", "datadinascita",
}  # fmt: skip
"""Names of columns about persons, of letters alone, without "patient" in front."""


def columns_of_persons(header: Sequence[str], used: Collection[str]) -> list[str]:
    """Columns that no option names and whose own name says that they tell who somebody is."""

    def folded(column: str) -> str:
        plain = unicodedata.normalize("NFKD", column.casefold())
        return _OF_PATIENT.sub("", "".join(filter(str.isalpha, plain)))

    return [column for column in header if column not in used and folded(column) in _PERSONS]


def without_fraction(cell: str) -> str:
    """A whole number without the ``.0`` that pandas writes behind it; any other cell as it is."""
    whole = cell.removesuffix(".0")
    return whole if whole.isdecimal() else cell


def refuse_rounded(
    file: Path, columns: Sequence[str], rows: Callable[[], Iterator[tuple[int, Row]]]
) -> None:
    """Refuse numbers that many may share, because a spreadsheet rounded them.

    Args:
        file: the table, for messages.
        columns: with numbers of persons.
        rows: gives every row with its line number.

    Raises:
        RequestError: naming the first.
    """
    for number, row in rows() if columns else ():
        for column in columns:
            if _ROUNDED.fullmatch(row[column]):
                raise RequestError(
                    f"{file}, line {number}: the number in column {column!r} is a rounded one, "
                    f"which many may share. {_AS_TEXT}"
                )


def refuse_two_spellings(
    file: Path, columns: Sequence[str], rows: Callable[[], Iterator[tuple[int, Row]]]
) -> None:
    """Refuse ids that stand there as ``7``, ``7.0`` or ``007``.

    One person would be two, and might stand in two splits.

    Args:
        file: the table, for messages.
        columns: with ids.
        rows: gives every row with its line number.

    Raises:
        RequestError: naming the first.
    """
    for column in columns:
        spelled: dict[str, tuple[str, int]] = {}  # number → how it stands first, and in which line
        twice: dict[str, str] = {}  # number → where it stands how
        for number, row in rows():
            identifier = row[column]
            whole = without_fraction(identifier)
            if whole.isdecimal():
                value = whole.lstrip("0")
                first, line = spelled.setdefault(value, (identifier, number))
                if first != identifier:
                    twice.setdefault(value, f"lines {line} and {number}")
        if twice:
            raise RequestError(
                f"{file}: ids of column {column!r} stand there in two spellings ({len(twice)} in "
                f"all, as in {next(iter(twice.values()))}: a '.0' behind, or zeros in front): each "
                f"would be taken for two. {_AS_TEXT}"
            )
