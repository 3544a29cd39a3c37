import gc
import gzip
import tempfile

import numpy as np
import pytest

from arra_med.datasets.dicom import render
from arra_med.datasets.mimic_cxr import MimicCxr
from arra_med.datasets.mimic_index import files_below
from arra_med.errors import RequestError
from arra_med.schema import Exclusion
from tests.datasets.mimic_release import (
    ROWS,
    adapter,
    items,
    reasons,
    release,
    samples,
    write_dicom,
    write_table,
)


def test_every_picture_is_one_sample_or_exclusion(tmp_path):
    found = items(release(tmp_path))
    assert list(samples(found)) == ["a1", "a2", "b1"]
    assert reasons(found) == {
        "c1": "no-view",
        "c2": "view-not-wanted",
        "d1": "no-report",
        "e1": "no-prompt",
        "f1": "not-in-split-table",
        "g1": "missing-image",
    }
    sample = found[1]
    assert sample.key == "p10000032/s50000001/a2"
    assert (sample.patient_id, sample.study_id, sample.split) == ("10000032", "50000001", "train")
    assert sample.view == "lateral"
    assert sample.prompt == "lateral view chest x-ray image, No acute process."
    assert sample.prompt_source == "impression"
    assert sample.source == "files/p10/p10000032/s50000001/a2.dcm"
    assert samples(found)["b1"].view == "AP"  # repaired from the procedure description
    assert samples(found)["b1"].split == "validate"


def test_labels_are_the_study_s_and_blank_is_unknown(tmp_path):
    found = samples(items(release(tmp_path)))
    labels = found["a1"].labels
    assert found["a2"].labels == labels
    assert {name for name, value in labels.items() if value is not None} == {
        "Atelectasis", "Edema", "Pneumonia",
    }  # fmt: skip
    assert (labels["Atelectasis"], labels["Edema"], labels["Pneumonia"]) == (1, 0, -1)
    assert set(found["b1"].labels.values()) == {None}  # no row in the table
    assert samples(items(tmp_path, labels="negbio"))["a1"].labels == labels
    assert set(samples(items(tmp_path, labels="none"))["a1"].labels.values()) == {None}


@pytest.mark.parametrize("files", ["files/", "", "mimic-cxr/files/"])
@pytest.mark.parametrize("tables", [".csv", ".csv.gz"])
@pytest.mark.parametrize("suffix", [".dcm", ".dcm.gz", ".jpg"])
def test_all_layouts_give_the_same_items(tmp_path, files, suffix, tables):
    plain = items(release(tmp_path / "plain"))
    other = items(release(tmp_path / "other", files=files, suffix=suffix, tables=tables))
    assert reasons(other) == reasons(plain)
    assert [s.prompt for s in samples(other).values()] == [
        s.prompt for s in samples(plain).values()
    ]
    mimic = adapter(tmp_path / "other")
    assert all(mimic.read(s).pixels.shape == (20, 30) for s in samples(other).values())


@pytest.mark.parametrize("below", ["", "files", "mimic-cxr-reports/files", "mimic-cxr-reports"])
def test_reports_are_found_however_they_were_unpacked(tmp_path, below):
    elsewhere = tmp_path / "texts"
    inside = items(release(tmp_path / "a", reports=tmp_path / "a" / below))
    outside = items(release(tmp_path / "b", reports=elsewhere / below), reports=elsewhere)
    assert len(samples(inside)) == len(samples(outside)) == 3


def test_missing_views_can_be_prompted_without_one(tmp_path):
    found = samples(items(release(tmp_path), missing_view="prompt-without-view"))
    assert found["c1"].view is None
    assert found["c1"].prompt == "chest x-ray image, Clear."
    for sample in found.values():
        assert "nan" not in sample.prompt.lower().split()
        assert "none" not in sample.prompt.lower().split()


def test_views_sources_and_splits_are_configuration(tmp_path):
    release(tmp_path)
    found = items(tmp_path, views=("LL", "swimmers"), prompt_sources=("impression",))
    assert list(samples(found)) == ["a2", "c2"]
    found = items(tmp_path, splits="by-patient", split_shares=(0.0, 0.0, 1.0))
    assert {s.split for s in samples(found).values()} == {"test"}
    assert "f1" in samples(found)  # the split table is not asked


def test_pictures_only_on_disk_and_rows_twice(tmp_path):
    root = release(tmp_path)
    stray = root / "files/p10/p10000032/s50000001/zz.dcm"
    write_dicom(stray, 3)
    write_dicom(root / "loose.dcm", 3)
    (root / "files/p10/p10000032/s50000001/a1.jpg").write_bytes(b"the same picture again")
    table = root / "mimic-cxr-2.0.0-metadata.csv"
    table.write_text(table.read_text() + "a1,10000032,50000001,,PA,20\n")
    found = items(root)
    assert len(found) == len(ROWS) + 1 + 2
    assert [item.source for item in found[-2:]] == [
        "files/p10/p10000032/s50000001/zz.dcm", "loose.dcm",
    ]  # fmt: skip
    assert reasons(found)["zz"] == reasons(found)["loose.dcm"] == "not-in-metadata"
    assert [i.reason for i in found if isinstance(i, Exclusion) and i.item.endswith("/a1")] == [
        "duplicate-key"
    ]
    assert samples(found)["a1"].source.endswith("a1.dcm")


def test_the_rendering_is_the_one_asked_for(tmp_path):
    root = release(tmp_path)
    for style in ("clinical", "mimic-jpg"):
        mimic = adapter(root, rendering=style)
        sample = next(iter(mimic.items()))
        np.testing.assert_array_equal(
            mimic.read(sample).pixels, render(root / sample.source, style)
        )


def test_missing_and_ambiguous_tables_are_named(tmp_path):
    root = release(tmp_path)
    (root / "mimic-cxr-2.0.0-split.csv").rename(root / "split.csv")
    with pytest.raises(FileNotFoundError, match=r"2\.0\.0-split\.csv .*splits: by-patient"):
        items(root)
    table = root / "mimic-cxr-2.0.0-metadata.csv"
    (root / "mimic-cxr-2.1.0-metadata.csv").write_bytes(table.read_bytes())
    with pytest.raises(RequestError, match="keep one"):
        items(root, splits="by-patient")
    with pytest.raises(
        FileNotFoundError, match=r"no MIMIC-CXR folder.*correct ingest\.dataset\.root"
    ):
        items(root / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere: correct ingest\.dataset\.reports"):
        items(root, reports=root / "nowhere")


def test_a_broken_table_names_the_line(tmp_path):
    root = release(tmp_path)
    table = root / "mimic-cxr-2.0.0-split.csv"
    text = table.read_text()
    table.write_text(text.replace("validate", "validat"))
    with pytest.raises(RequestError, match=r"line 4: expected train"):
        items(root)
    table.write_text(text.replace("subject_id", "subject"))
    with pytest.raises(RequestError, match=r"no column 'subject_id': did you mean 'subject'\?"):
        items(root)
    table.write_text(text)
    labels = root / "mimic-cxr-2.0.0-chexpert.csv"
    labels.write_text(labels.read_text().replace("-1.0", "maybe"))
    with pytest.raises(RequestError, match=r"line 2, column 'Pneumonia': 'maybe' is not a label"):
        items(root)


@pytest.mark.parametrize("version", ["2.0.0", "2.1.0"])
@pytest.mark.parametrize("compressed", [False, True])
def test_tables_saved_by_windows_programs_read_the_same(tmp_path, version, compressed):
    plain = items(release(tmp_path / "plain"))
    root = release(tmp_path / "other")
    for table in root.glob("*.csv"):
        data = b"\xef\xbb\xbf" + table.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        name = table.name.replace("2.0.0", version) + ".gz" * compressed
        table.unlink()
        (root / name).write_bytes(gzip.compress(data) if compressed else data)
    assert items(root) == plain


def test_a_table_that_was_cut_off_stops_everything(tmp_path):
    root = release(tmp_path)
    table = root / "mimic-cxr-2.0.0-metadata.csv"
    data = table.read_bytes()
    table.write_bytes(data[: data.rindex(b",", 0, -9)])
    with pytest.raises(RequestError, match=r"line 10: wrong number of fields.*SHA256SUMS"):
        items(root)


def test_missing_views_are_repaired_from_the_other_columns(tmp_path):
    root = release(tmp_path)
    table = root / "mimic-cxr-2.0.0-metadata.csv"
    header = [
        "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription",
        "ViewPosition", "ViewCodeSequence_CodeMeaning", "ProcedureCodeSequence_CodeMeaning",
    ]  # fmt: skip
    write_table(
        table,
        header,
        [
            ("a1", "10000032", "50000001", "CHEST (PA AND LAT)", "", "left lateral", ""),
            ("a2", "10000032", "50000001", "CHEST (PA AND LAT)", "nan", "", "CHEST (PA AND LAT)"),
            ("b1", "10000764", "50000002", "CHEST (SINGLE VIEW)", "", "", "CHEST (PORTABLE AP)"),
            ("c1", "11000011", "50000003", "CHEST (PA)", "mobile bed", "", ""),
        ],
    )
    found = items(root)
    assert {name: sample.view for name, sample in samples(found).items()} == {
        "a1": "lateral", "b1": "AP",
    }  # fmt: skip
    assert reasons(found)["a2"] == "no-view"
    assert reasons(found)["c1"] == "unknown-view"
    assert "mobile" not in str(found)


def test_only_the_splits_asked_for(tmp_path):
    found = items(release(tmp_path), take_splits=("validate", "test"))
    assert list(samples(found)) == ["b1"]
    assert reasons(found)["a1"] == reasons(found)["d1"] == "split-not-wanted"
    with pytest.raises(RequestError, match="take_splits"):
        adapter(tmp_path, take_splits=())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"views": ("PA", "frontal2")}, "did you mean frontal"),
        ({"prompt_sources": ("impresion",)}, "expected one or more of .*impression"),
        ({"prompt_sources": ()}, "prompt_sources"),
        ({"prompt_template": "{view}"}, "must hold {text}"),
        ({"split_shares": (1.0, 1.0, 0.0)}, "sum to 1"),
    ],
)
def test_options_are_checked(tmp_path, wrong, message):
    with pytest.raises(RequestError, match=message):
        MimicCxr.Options(root=tmp_path, **wrong)


def test_files_in_the_wrong_folder_are_not_trusted(tmp_path):
    root = release(tmp_path)
    patient = root / "files/p10/p10000032"
    (patient / "s59999999").mkdir()
    (patient / "s50000001/a1.dcm").rename(patient / "s59999999/a1.dcm")  # another study
    (root / "files/p11").mkdir(exist_ok=True)
    (root / "files/p10/p10000764").rename(root / "files/p11/p10000764")  # another group
    found = items(root)
    assert len(found) == len(ROWS)  # each of them is one item still
    wrong = {
        i.item.rpartition("/")[2]: i for i in found if getattr(i, "reason", "") == "wrong-folder"
    }
    assert sorted(wrong) == ["a1", "b1"]
    assert wrong["a1"].source == "files/p10/p10000032/s59999999/a1.dcm"
    assert wrong["a1"].detail == "its file should lie in p10/p10000032/s50000001"
    assert wrong["b1"].detail == "its file should lie in p10/p10000764/s50000002"


def test_ids_that_differ_between_tables_exclude_the_picture(tmp_path):
    root = release(tmp_path)
    name = root / "mimic-cxr-2.0.0-split.csv"
    text = name.read_text()
    name.write_text(text.replace("a1,50000001", "a1,50000009") + "a2,50000001,10000032,test\n")
    labels = root / "mimic-cxr-2.0.0-chexpert.csv"
    labels.write_text(labels.read_text() + "10000999,50000002" + "," * 14 + "\n")
    found = items(root)
    assert {name for name, reason in reasons(found).items() if reason == "ids-differ"} == {
        "a1", "a2", "b1",
    }  # fmt: skip
    assert not samples(found)


def test_ids_that_cannot_be_keys_are_excluded(tmp_path):
    root = release(tmp_path)
    table = root / "mimic-cxr-2.0.0-metadata.csv"
    table.write_text(table.read_text() + ",10000032,50000001,,PA,20\n'a b',,1,,PA,20\n")
    found = items(root)
    assert [item.reason for item in found[-2:]] == ["unusable-ids", "unusable-ids"]
    assert len(samples(found)) == 3


def test_items_open_no_picture_and_no_report(tmp_path):
    root = release(tmp_path)
    mimic = adapter(root)
    expected = list(mimic.items())
    for path in (*root.rglob("*.dcm"), *root.rglob("*.txt")):
        path.write_bytes(b"")
    assert list(adapter(root).items()) == list(mimic.items()) == expected
    assert expected[0].text_source == "files/p10/p10000032/s50000001.txt"


def test_what_was_looked_for_is_said_when_nothing_is_found(tmp_path):
    root = release(tmp_path)
    pictures = root / "files"
    pictures.rename(tmp_path.parent / f"{tmp_path.name}-away")
    looked = r"looked for files/p10/p10000032/s50000001/a1\.dcm, \.dcm\.gz or \.jpg"
    with pytest.raises(
        FileNotFoundError, match=rf"holds 0 pictures; {looked}.*Found there: mimic-"
    ):
        adapter(root).num_items()
    (root / "images").mkdir()
    write_dicom(root / "images/a1.dcm", 1)
    with pytest.raises(FileNotFoundError, match=rf"1 pictures, and none of the 9 .*{looked}"):
        adapter(root).num_items()
    (tmp_path.parent / f"{tmp_path.name}-away").rename(pictures)
    for path in root.rglob("*.txt"):
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no reports; looked for files/p10/p10000032/s5000"
    ):
        adapter(root).num_items()


def test_links_that_lead_up_are_followed_once(tmp_path):
    root = release(tmp_path / "a")
    before = items(root)
    (root / "files/p10/again").symlink_to(root, target_is_directory=True)
    (root / "loop").symlink_to(root / "files/p10", target_is_directory=True)
    assert len(list(files_below(root))) < 100
    assert reasons(items(root)) == reasons(before)
    elsewhere = tmp_path / "b"
    elsewhere.mkdir()
    for table in root.glob("*.csv"):
        (elsewhere / table.name).symlink_to(table)
    (elsewhere / "files").symlink_to(release(tmp_path / "c") / "files", target_is_directory=True)
    assert reasons(items(elsewhere)) == reasons(before)


def test_names_that_are_not_unicode_are_excluded(tmp_path):
    root = release(tmp_path)
    (
        root / "files/p10/p10000032/s50000001" / b"\xff\xfe.dcm".decode("utf-8", "surrogateescape")
    ).touch()
    found = items(root)
    assert found[-1].reason == "not-in-metadata"
    assert found[-1].item.endswith("\\udcff\\udcfe")


def test_the_index_goes_away_with_the_adapter(tmp_path, monkeypatch):
    root = release(tmp_path / "root")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    mimic = adapter(root)
    rest = mimic.items()
    next(rest)
    assert len(list(scratch.iterdir())) == 1
    del mimic, rest
    gc.collect()
    assert not list(scratch.iterdir())
