"""A planted name, number and birth date through a whole ingest: nowhere, or reported."""

import csv
import gzip
import hashlib
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image

from arra_med.config import build
from arra_med.datasets.ingest import ingest
from arra_med.datasets.table import Table
from arra_med.errors import RequestError, WorkError
from arra_med.settings import Ingest
from arra_med.store import MANIFEST
from tests.datasets.films import film, ramp, written

NAME, MRN, BORN = "Quenzer^Ottoline", "MRN4711089", "19610412"
PLANTED = (b"quenzer", b"ottoline", b"mrn4711089", b"4711089", b"19610412", b"1961-04-12",
           b"04/12/1961", b"12.04.1961")  # fmt: skip
REPORT = (
    "\n FINAL REPORT\n INDICATION:  Ottoline Quenzer, born 04/12/1961, MRN4711089.\n"
    " IMPRESSION:  Small left effusion in Ms. Quenzer (born 12.04.1961, MRN4711089).\n"
)


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("ARRA_MED_HASH_KEY", "0123456789abcdef" * 4)


@pytest.fixture
def archive(tmp_path):
    """DICOM files (plain, gzipped, private and nested tags) and a JPEG with EXIF, with reports."""
    root = tmp_path / "archive" / "MRN4711089"
    root.mkdir(parents=True)
    for index in range(4):
        dataset = pydicom.dcmread(_stream(film((ramp() + np.uint16(index)) % 4096, bits=12)))
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, MRN, BORN
        dataset.StudyInstanceUID = f"1.2.826.{index}"
        dataset.ViewPosition = "PA"
        dataset.StudyDescription = "CHEST of Ottoline Quenzer"
        other = pydicom.Dataset()
        other.PatientID = MRN
        dataset.OtherPatientIDsSequence = [other]
        block = dataset.private_block(0x0011, "OURS", create=True)
        block.add_new(1, "PN", NAME)
        data = written(dataset)
        name = f"film{index}.dcm"
        (root / name).write_bytes(data)
        (root / f"film{index}.txt").write_text(REPORT)
    (root / "film3.dcm").rename(root / "film3.raw.dcm")
    (root / "film3.txt").rename(root / "film3.raw.txt")
    (root / "zipped.dcm.gz").write_bytes(gzip.compress((root / "film0.dcm").read_bytes()[:-2]))
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = "MRN4711089 Quenzer^Ottoline 19610412", "Ottoline Quenzer"
    Image.fromarray(ramp(np.uint8, 8)).save(root / "photo.jpg", exif=exif)
    (root / "photo.txt").write_text(REPORT)
    return tmp_path / "archive"


def _stream(data):
    return io.BytesIO(data)


def run(archive, output, *, dataset=None, part_size=2, **privacy):
    tree = {
        "dataset": {
            "name": "table", "file": str(archive / "**/*.*"), "report_suffix": ".txt",
            "patient": "PatientID", "study": "StudyInstanceUID", "view": "ViewPosition",
            "missing_view": "prompt-without-view",
        } | (dataset or {}),
        "size": 16, "part_size": part_size, "workers": 0, "privacy": privacy,
    }  # fmt: skip
    return ingest(build(Ingest, tree, where="test"), output)


def every_byte(folder):
    """All files of a folder, and all values of its tables, which compression would hide."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()
        if path.suffix == ".parquet":
            yield path.name, repr(pq.read_table(path).to_pylist()).encode()


def findings(folder, name, error):
    """The table that the error names, which holds nothing planted."""
    path = folder / ".partial" / name
    assert str(path) in str(error)
    assert not any(planted in path.read_bytes().lower() for planted in PLANTED)
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_nothing_planted_is_in_any_byte_of_any_output(archive, tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")
    manifest = run(archive, tmp_path / "out", hash_ids=True)
    counts = manifest["counts"]
    assert counts["samples"] >= 4
    assert counts["redacted.PatientName"] >= 4
    found = [
        (name, planted)
        for name, data in every_byte(tmp_path / "out")
        for planted in PLANTED
        if planted in data.lower()
    ]
    assert found == []
    said = caplog.text + "".join(capfd.readouterr())
    assert not any(planted.decode() in said.lower() for planted in PLANTED)
    prompts = pq.read_table(tmp_path / "out/samples.parquet")["prompt"].to_pylist()
    assert all("left effusion" in prompt for prompt in prompts)


def test_the_path_of_an_excluded_film_names_nobody_either(archive, tmp_path):
    folder = archive / "films"
    (folder / "Quenzer_Ottoline").mkdir(parents=True)
    films = archive / "MRN4711089"
    (films / "film0.dcm").rename(folder / "Quenzer_Ottoline" / "a.dcm")
    (films / "film1.dcm").rename(folder / "b.dcm")
    rows = (
        "file,view,text\nQuenzer_Ottoline/a.dcm,lateral,Clear.\nb.dcm,PA,Clear.\nc.dcm,PA,Clear.\n"
    )
    (folder / "t.csv").write_text(rows)
    tree = {
        "dataset": {"name": "table", "file": str(folder / "t.csv"), "image": "file",
                    "view": "view", "views": ["PA"], "text": "text"},
        "size": 16, "workers": 0,
    }  # fmt: skip
    ingest(build(Ingest, tree, where="test"), tmp_path / "out")
    lines = [json.loads(x) for x in (tmp_path / "out/excluded.jsonl").read_text().splitlines()]
    assert [(x["item"], x["source"]) for x in lines] == [
        ("t.csv#2", "___/a.dcm"),
        ("t.csv#4", "c.dcm"),
    ]


@pytest.mark.parametrize("name", ["a.dcm", "a.dcm.gz", "a.jpg"])
def test_it_names_nobody_whatever_the_file_is(archive, tmp_path, name):
    films, folder = archive / "MRN4711089", archive / "films" / "Quenzer_Ottoline"
    given = {"a.dcm": "film0.dcm", "a.dcm.gz": "zipped.dcm.gz", "a.jpg": "photo.jpg"}[name]
    folder.mkdir(parents=True)
    (films / given).rename(folder / name)  # no text lies beside it
    (films / "film1.dcm").rename(folder.parent / "b.dcm")
    (folder.parent / "b.txt").write_text("Clear.")
    tree = {
        "dataset": {"name": "table", "file": str(folder.parent), "text_suffix": ".txt"},
        "size": 16, "workers": 0,
    }  # fmt: skip
    ingest(build(Ingest, tree, where="test"), tmp_path / "out")
    (line,) = (tmp_path / "out/excluded.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == f"___/{name}"
    assert "quenzer" not in line.lower()


def test_what_exif_says_of_a_photograph_is_kept_out_too(archive, tmp_path):
    folder = archive / "MRN4711089"
    line = "film,report\nphoto.jpg,Ottoline Quenzer (MRN4711089): the disc is pale.\n"
    (folder / "films.csv").write_text(line)
    tree = {
        "dataset": {"name": "table", "file": str(folder / "films.csv"), "image": "film",
                    "text": "report", "modality": "fundus", "channels": 3},
        "size": 16, "workers": 0,
    }  # fmt: skip
    ingest(build(Ingest, tree, where="test"), tmp_path / "out")
    prompts = pq.read_table(tmp_path / "out/samples.parquet")["prompt"].to_pylist()
    assert prompts == ["fundus image, ___ (MRN___): the disc is pale."]
    tree["privacy"] = {"whitelist": False}
    with pytest.raises(WorkError, match="EXIF Artist"):
        ingest(build(Ingest, tree, where="test"), tmp_path / "open")


def test_kept_numbers_are_refused_at_the_start_unless_they_are_allowed(archive, tmp_path):
    with pytest.raises(RequestError, match=r"PatientID, StudyInstanceUID.*hash_ids.*allow"):
        run(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RequestError, match=r"'PatientsID'.*did you mean 'PatientID'"):
        run(archive, tmp_path / "out", allow=["PatientsID", "StudyInstanceUID"])
    run(archive, tmp_path / "out", allow=["PatientID", "StudyInstanceUID"])


def test_a_table_of_the_headers_numbers_is_refused_at_the_first_picture(
    archive, tmp_path, monkeypatch
):
    films = archive / "MRN4711089"
    rows = "".join(f"film{i}.dcm,Clear,{MRN},k{i}\n" for i in range(3))
    (films / "films.csv").write_text("image,text,no,key\n" + rows)
    columns = {
        "file": str(films / "films.csv"), "report_suffix": None, "text": "text", "patient": "no",
        "study": None, "view": None, "key": "key", "missing_view": "exclude",
    }  # fmt: skip
    read, seen = Table.read, []
    monkeypatch.setattr(Table, "read", lambda self, one: seen.append(one.key) or read(self, one))
    with pytest.raises(WorkError, match=r"PatientID in patient_id.*hash_ids.*allow=\[") as caught:
        run(archive, tmp_path / "out", dataset=columns, part_size=3)
    assert seen == ["k0"]
    assert MRN not in str(caught.value)
    (found,) = findings(tmp_path / "out", "identifiers-00000.csv", caught.value)
    assert (found["key"], found["field"], found["tag"]) == ("k0", "patient_id", "PatientID")
    film0 = hashlib.sha256((films / "film0.dcm").read_bytes()).hexdigest()
    assert found["source_sha256"] == film0
    run(archive, tmp_path / "out", dataset=columns, hash_ids=True)  # nothing binds


def test_without_the_whitelist_the_guard_reports_what_it_finds(archive, tmp_path):
    columns = {
        "text": "StudyDescription",
        "report_suffix": None,
        "allow_tags": ["StudyDescription"],
        "file": str(archive / "**/*.dcm"),
    }
    with pytest.raises(WorkError, match=r"PatientName.*prompt") as caught:
        run(archive, tmp_path / "out", dataset=columns, hash_ids=True, whitelist=False)
    assert "quenzer" not in str(caught.value).lower()
    assert not (tmp_path / "out" / MANIFEST).exists()
    found = findings(tmp_path / "out", "identifiers-00000.csv", caught.value)
    assert {(row["field"], row["tag"]) for row in found} == {("prompt", "PatientName")}
    assert len({row["key"] for row in found}) == 2  # both of the part
    with pytest.raises(WorkError, match="PatientName"):
        run(archive, tmp_path / "reports", hash_ids=True, whitelist=False)


def test_somebody_else_s_name_is_found_in_the_finished_folder(archive, tmp_path):
    """The report of another patient names one whose film is in the archive."""
    folder = archive / "second"
    folder.mkdir()
    dataset = pydicom.dcmread(archive / "MRN4711089" / "film0.dcm")
    dataset.PatientName, dataset.PatientID = "Ybarra^Casimir", "MRN9999999"
    dataset.PatientBirthDate, dataset.OtherPatientIDsSequence = "19700101", []
    dataset[0x0011, 0x1001].value = "Ybarra^Casimir"
    dataset.StudyInstanceUID = "1.2.826.9"
    (folder / "film.dcm").write_bytes(written(dataset))
    (folder / "film.txt").write_text(REPORT.replace("Ms. Quenzer", "Ottoline Quenzer"))
    with pytest.raises(WorkError, match=r"PatientName.*samples\.parquet column prompt") as caught:
        run(archive, tmp_path / "out", hash_ids=True)
    assert "quenzer" not in str(caught.value).lower()
    assert not (tmp_path / "out" / MANIFEST).exists()
    number, found = findings(tmp_path / "out", "identifiers.csv", caught.value)
    assert (number["field"], number["tag"]) == ("prompt", "PatientID")  # MRN4711089, as 4711089
    assert (found["field"], found["tag"]) == ("prompt", "PatientName")
    assert number["row"] == found["row"]
    row = pq.read_table(tmp_path / "out/samples.parquet").to_pylist()[int(found["row"]) - 1]
    assert (row["key"], row["source_sha256"]) == (found["key"], found["source_sha256"])
    assert "Ottoline Quenzer" in row["prompt"]
    film = hashlib.sha256((folder / "film.dcm").read_bytes()).hexdigest()
    assert found["source_sha256"] == film


def test_a_folder_made_with_less_care_is_another_one(archive, tmp_path):
    run(archive, tmp_path / "out", hash_ids=True, scan=False)
    with pytest.raises(RequestError, match="scan"):
        run(archive, tmp_path / "out", hash_ids=True)
    run(archive, tmp_path / "allowed", hash_ids=True, allow=["StudyID"])
    with pytest.raises(RequestError, match="allow"):
        run(archive, tmp_path / "allowed", hash_ids=True)


def test_a_key_is_needed_and_another_key_is_another_folder(archive, tmp_path, monkeypatch):
    manifest = run(archive, tmp_path / "out", hash_ids=True)
    assert json.dumps(manifest).count("0123456789abcdef") == 0
    assert run(archive, tmp_path / "out", hash_ids=True) == manifest
    monkeypatch.setenv("ARRA_MED_HASH_KEY", "f" * 64)
    with pytest.raises(Exception, match="hashed_with"):
        run(archive, tmp_path / "out", hash_ids=True)
    monkeypatch.delenv("ARRA_MED_HASH_KEY")
    with pytest.raises(Exception, match="openssl rand"):
        run(archive, tmp_path / "other", hash_ids=True)
