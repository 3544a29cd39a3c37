"""Names and numbers in columns of a table are kept out as those of headers are."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from arra_med.config import build
from arra_med.datasets.ingest import ingest
from arra_med.datasets.privacy import Leak, Redactor, Watch, column_identifiers, leak_message
from arra_med.datasets.table_ids import columns_of_persons
from arra_med.errors import RequestError, WorkError
from arra_med.settings import Ingest
from arra_med.store import MANIFEST
from tests.datasets.test_guard_end_to_end import every_byte

NAMES = ["surname", "given", "mrn", "reader"]
HEADER = "file,surname,given,mrn,reader,report\n"
ROWS = [
    "a.png,Quenzer,Ottoline,4711089,Dr. B. Ybarra,"
    '"Ms. Quenzer (MRN 4711089) has an effusion. Ottoline\'s heart is normal. Casimir YBARRA"\n',
    'b.png,Hill,Grace,nan,,"Grace Hill: hill-shaped opacity, no edema."\n',
    "c.png,,,4711,,Clear.\n",
]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / name)
    return folder


def run(films: Path, output: Path, rows: list[str], **options: Any) -> dict[str, Any]:
    (films / "films.csv").write_text(HEADER + "".join(rows))
    privacy = options.pop("privacy", {})
    tree = {
        "dataset": {"name": "table", "file": str(films / "films.csv"), "image": "file",
                    "text": "report", "name_columns": NAMES} | options,
        "size": 8, "workers": 0, "privacy": privacy,
    }  # fmt: skip
    return ingest(build(Ingest, tree, where="test"), output)


def prompts(folder: Path) -> list[str]:
    found: list[str] = pq.read_table(folder / "samples.parquet")["prompt"].to_pylist()
    return found


def test_a_row_s_names_and_numbers_are_replaced_in_its_text(films: Path, tmp_path: Path) -> None:
    manifest = run(films, tmp_path / "out", ROWS)
    assert prompts(tmp_path / "out") == [
        "chest x-ray image, Ms. ___ (MRN ___) has an effusion. ___ heart is normal. Casimir ___",
        "chest x-ray image, ___: hill-shaped opacity, no edema.",
        "chest x-ray image, Clear.",
    ]
    assert manifest["counts"]["redacted.column mrn"] == 1
    planted = (b"quenzer", b"ottoline", b"4711089", b"ybarra", b"grace")
    every = [data.lower() for _, data in every_byte(tmp_path / "out")]
    assert not any(word in data for data in every for word in planted)


def test_without_them_the_names_stay_and_that_is_said(
    films: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(films, tmp_path / "out", ROWS, name_columns=[])
    assert "Quenzer" in prompts(tmp_path / "out")[0]
    assert "not in name_columns: surname, given, mrn, reader;" in caplog.text


def test_ids_that_hashes_replace_do_not_stay_in_texts(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARRA_MED_HASH_KEY", "k" * 32)
    hashed: dict[str, Any] = {
        "name_columns": [], "patient": "mrn", "study": "given", "privacy": {"hash_ids": True},
    }  # fmt: skip
    ids = ["a.png,,S-30417,H00020,,H00020 (S-30417) seen again. No effusion.\n"]
    manifest = run(films, tmp_path / "out", ids, **hashed)
    assert prompts(tmp_path / "out") == ["chest x-ray image, ___ (___) seen again. No effusion."]
    assert manifest["counts"]["redacted.patient id"] == 1
    hashed["privacy"] = {"hash_ids": False}
    run(films, tmp_path / "plain", ids, **hashed)
    assert "H00020" in prompts(tmp_path / "plain")[0]


def test_another_patient_s_id_in_a_text_fails_where_ids_are_hashed(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARRA_MED_HASH_KEY", "k" * 32)
    rows = ["a.png,,,H0002077,,Clear.\n", "b.png,,,H0003088,,As for H0002077.\n"]
    with pytest.raises(WorkError, match=r"patient id in .* column prompt, 1 row") as raised:
        run(films, tmp_path / "out", rows, name_columns=[], patient="mrn",
            privacy={"hash_ids": True})  # fmt: skip
    said = str(raised.value)
    assert "identifiers from the ids that hashes replace would stand" in said
    assert "H0002077" not in said
    assert "privacy.allow" not in said
    assert "name_columns" not in said


def test_columns_of_persons_are_known_by_their_names() -> None:
    said = ["Patient_Name", "pt_DOB", "Prénom", "Geburts-Datum", "PatientenName", "Date of birth"]
    plain = ["file_name", "patient_id", "patient", "rename", "view", "findings", ""]
    assert columns_of_persons([*said, *plain, "mrn"], used=["mrn"]) == said


def test_a_name_in_another_row_s_text_fails_the_ingest(films: Path, tmp_path: Path) -> None:
    rows = [*ROWS[:2], ROWS[2].replace("Clear.", "Compare Ottoline Quenzer of 2019.")]
    with pytest.raises(WorkError, match=r"columns surname, given in samples\.parquet") as caught:
        run(films, tmp_path / "out", rows)
    said = str(caught.value)
    assert "columns of names would stand in the output" in said
    assert "out of ingest.dataset.name_columns" in said
    assert "privacy.allow" not in said
    assert "quenzer" not in said.lower()
    assert not (tmp_path / "out" / MANIFEST).exists()
    table = tmp_path / "out" / ".partial" / "identifiers.csv"
    with table.open(newline="") as lines:
        (found,) = csv.DictReader(lines)
    assert (found["key"], found["field"], found["tag"]) == (
        "c", "prompt", "columns surname, given",
    )  # fmt: skip
    assert "quenzer" not in table.read_text().lower()


def test_a_name_in_the_path_fails_it_or_is_kept_from_the_exclusions(
    films: Path, tmp_path: Path
) -> None:
    (films / "Quenzer_Ottoline").mkdir()
    (films / "a.png").rename(films / "Quenzer_Ottoline" / "a.png")
    moved = ROWS[0].replace("a.png", "Quenzer_Ottoline/a.png")
    with pytest.raises(WorkError, match="columns surname, given in key"):
        run(films, tmp_path / "out", [moved, *ROWS[1:]])
    (films / "Quenzer_Ottoline" / "a.png").write_bytes(b"no picture")
    rows = [moved, ROWS[0].replace("a.png", "Quenzer_Ottoline/none.png"), *ROWS[1:]]
    run(films, tmp_path / "excluded", rows)
    lines = (tmp_path / "excluded" / "excluded.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["source"] for one in found] == ["___/a.png", "___/none.png"]
    assert all(set(one) == {"item", "source", "reason", "detail"} for one in found)
    assert "quenzer" not in "".join(lines).lower()


def test_an_id_that_is_redacted_may_be_hashed(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row.replace("nan", "4711090") for row in ROWS]
    with pytest.raises(WorkError, match=r"column mrn in patient_id.*hash_ids"):
        run(films, tmp_path / "out", rows, patient="mrn")
    monkeypatch.setenv("ARRA_MED_HASH_KEY", "0123456789abcdef" * 4)
    run(films, tmp_path / "hashed", rows, patient="mrn", privacy={"hash_ids": True})
    assert "MRN ___" in prompts(tmp_path / "hashed")[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name_columns": ["surnam"]}, "no column 'surnam': did you mean 'surname'"),
        ({"name_columns": ["report"]}, "'name_columns' must not name a column of texts"),
        ({"privacy": {"whitelist": False}}, "dataset.name_columns are replaced in texts, and"),
        ({"file": "{films}"}, "'name_columns' names surname, given, mrn, reader: what headers say"),
    ],
)
def test_what_has_no_effect_is_refused(
    films: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    if "file" in options:
        columns = {"file": str(films), "image": "image", "text": None, "text_suffix": ".txt"}
        options = options | columns
    with pytest.raises(RequestError, match=message):
        run(films, tmp_path / "out", ROWS, **options)


def test_of_a_folder_parts_of_the_path_can_be_names(films: Path, tmp_path: Path) -> None:
    (films / "Quenzer Ottoline").mkdir()
    (films / "a.png").rename(films / "Quenzer Ottoline" / "a.png")
    (films / "Quenzer Ottoline" / "a.txt").write_text("Ms. Quenzer: clear.")
    with pytest.raises(WorkError, match="column top_folder in key"):
        run(films, tmp_path / "out", [], file=str(films / "*/*.png"), image="image", text=None,
            text_suffix=".txt", name_columns=["top_folder"])  # fmt: skip


def test_columns_whose_names_have_spaces_are_names_too() -> None:
    redact = Redactor(
        column_identifiers({"Patient Name": "Quenzer, Ottoline", "Pat. No": "AB12345"})
    )
    assert redact("Ottoline Quenzer, AB 12345, is well.") == "___, ___, is well."


def test_a_birth_date_is_found_in_every_order_and_other_rows_dates_are_no_leak() -> None:
    born = column_identifiers({"born": "12.04.1961", "mrn": "1961-04"})
    redact = Redactor(born)
    assert redact("Born 1961-04-12, April 12, 1961 or 12/4/61.") == "Born ___, ___ or ___."
    assert redact.counts == {"date column born": 3}
    watch = Watch(b"salt")
    watch.add(born)
    assert not watch.find("Examination of 12.04.1961.")


def test_the_message_names_both_kinds_of_sources() -> None:
    leaks = [Leak("column mrn", "key"), Leak("PatientID", "key")]
    said = leak_message(leaks, Path("identifiers.csv"))
    assert "the pictures' own headers and columns of names would stand" in said
    assert "ingest.privacy.allow=[PatientID])" in said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("123-45-6789", "SSN 123-45-6789"), ("12-34-56", "MRN 12-34-56"),
        ("12-34-56", "MRN 123456"),
        ("00-12-3456", "MRN 00-12-3456"), ("555-12-345", "tel. 555-12-345"),
        ("2019-05-123", "no. 2019-05-123"), ("10-5-12 AB77812", "no. 10-5-12 AB77812"),
        ("12.04.1961 Quenzer, Ottoline", "Quenzer, Ottoline"), ("19610412", "12.04.1961"),
        ("19610412", "no. 19610412"), ("12. 4. 1961", "12.04.1961"),
        ("April 12, 1961", "1961-04-12"),
        ("12. März 1961", "12.3.1961"), ("12 avril 1961", "April 12th, 1961"),
        ("1961-04-12 00:00:00", "12 Apr 1961"), ("12.04.61", "born 12.04.1961"),
    ],
)  # fmt: skip
def test_what_looks_like_a_date_is_found_whatever_it_is(value: str, text: str) -> None:
    redacted = Redactor(column_identifiers({"column": value}))(text)
    assert not any(character.isdigit() for character in redacted)
    assert "Quenzer" not in redacted


def test_a_date_leaves_other_days_and_ordinary_numbers(films: Path) -> None:
    redact = Redactor(column_identifiers({"born": "12. April 1961"}))
    text = "Compared with 12 May 2019: 12 of 14 ribs, 4 mm, April 1961 series."
    assert redact(text) == text


def test_numbers_that_pandas_made_fractions_of_are_found(films: Path, tmp_path: Path) -> None:
    rows = [row.replace(",4711089,", ",4711089.0,") for row in ROWS]
    run(films, tmp_path / "out", rows)
    assert "(MRN ___)" in prompts(tmp_path / "out")[0]


def test_rounded_numbers_are_refused(films: Path, tmp_path: Path) -> None:
    rows = [row.replace(",4711089,", ",4.71E+06,") for row in ROWS]
    with pytest.raises(RequestError, match="line 2: the number in column 'mrn' is a rounded one"):
        run(films, tmp_path / "out", rows)


@pytest.mark.parametrize("role", ["view", "split", "label_column"])
def test_a_column_that_reaches_the_folder_is_not_one_of_names(
    films: Path, tmp_path: Path, role: str
) -> None:
    with pytest.raises(RequestError, match="must not name a column of texts, views, splits or lab"):
        run(films, tmp_path / "out", ROWS, **{role: "surname"})


@pytest.mark.parametrize(
    ("names", "text", "left"),
    [
        ({"surname": "Hill", "first": "Grace"}, "Grace M. Hill was told.", "___ was told."),
        ({"surname": "Hill", "first": "Grace"}, "Hill, Grace M. was told.", "___ M. was told."),
        ({"surname": "Okafor", "first": "Chidi"}, "Chidi B. Okafor.", "___."),
        ({"surname": "Hill", "first": "Mark"}, "A. Mark on the left. B. Hill.", None),
        ({"surname": "Hill", "first": "Mark"}, "Mark B. Hill; Hill, Mark B.", "___; ___ B."),
        ({"surname": "Le", "first": "Van"}, "Patient: LE VAN. Van Le.", "Patient: ___. ___."),
        ({"surname": "Do", "first": "Le"}, "Le Do came.", "___ came."),
        ({"surname": "Le", "first": "Van"}, "Seen on Le Fort and Van Rensselaer.", None),
        ({"mrn": "A-12/34"}, "No. A12/34, A 12 34, A 1234, a1234.", "No. ___, ___, ___, ___."),
    ],
)
def test_whole_names_and_ids_go_and_others_stay(
    names: dict[str, str], text: str, left: str | None
) -> None:
    assert Redactor(column_identifiers(names))(text) == (text if left is None else left)
