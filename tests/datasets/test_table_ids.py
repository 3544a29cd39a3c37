"""Ids of patients and studies in tables."""

import shutil

import pytest

from arra_med.errors import RequestError
from tests.datasets.film_tables import table


def test_without_patients_the_pictures_of_a_study_stay_together(root):
    rows = "".join(f"{n}{view}.png,s{n},clear\n" for n in range(30) for view in "ab")
    for n in range(30):
        for view in "ab":
            shutil.copy(root / "a.png", root / f"{n}{view}.png")
    adapter = table(root, "file,study,report\n" + rows, study="study")
    found = list(adapter.items())
    assert len(found) == 60
    assert len({item.patient_id for item in found}) == 30
    assert all(a.split == b.split for a, b in zip(found[::2], found[1::2], strict=True))


def test_studies_without_a_number_are_not_one_patient(root):
    text = "file,study,report\na.png,nan,Clear\nb.png,nan,Clear\n"
    assert [item.patient_id for item in table(root, text, study="study").items()] == ["a", "b"]


@pytest.mark.parametrize("role", ["patient", "study"])
def test_ids_of_which_some_became_fractions_are_refused(root, role):
    text = "file,report,no\na.png,x,1000\nb.png,x,1001.0\nc.png,x,1000.0\nd.png,x,1000.05\n"
    with pytest.raises(RequestError, match=r"column 'no'.*\(1 in all, as in lines 2 and 4") as e:
        table(root, text, **{role: "no"})
    assert "1000" not in str(e.value)
    table(root, text.replace("1000.0\n", "1002.0\n"), **{role: "no"})


@pytest.mark.parametrize("role", ["patient", "study"])
def test_ids_that_a_spreadsheet_changed_are_refused(root, role):
    text = "file,report,no\na.png,x,00107\nb.png,x,0108\nc.png,x,107\n"
    with pytest.raises(RequestError, match=r"two spellings \(1 in all, as in lines 2 and 4") as e:
        table(root, text, **{role: "no"})
    assert "107" not in str(e.value)
    table(root, text.replace(",107\n", ",109\n"), **{role: "no"})
    for rounded in ("1.23457E+11", "1,2e+11", "1E+12"):
        with pytest.raises(RequestError, match=r"line 4: the number in column 'no' is a rounded"):
            table(root, text.replace(",107\n", f',"{rounded}"\n'), **{role: "no"})
