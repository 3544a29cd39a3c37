"""A drawn chest collection: files, tables, reports, determinism, resuming, and delegation."""

import csv
import io
import multiprocessing
import pickle
import re
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from arra_med.datasets import phantom_cxr
from arra_med.datasets.phantom import collection as drawing
from arra_med.datasets.phantom.chest import draw_chest
from arra_med.datasets.phantom.cxr_files import dicom_bytes, stored_pixels
from arra_med.datasets.phantom.cxr_plan import plan_studies
from arra_med.datasets.phantom.findings import FINDINGS
from arra_med.datasets.phantom.reports import write_report
from arra_med.datasets.phantom_cxr import PhantomCxr, draw_films
from arra_med.errors import RequestError
from arra_med.schema import CHEXPERT_LABELS, Sample
from arra_med.store import verify

SHARES = (0.7, 0.1, 0.2)
NUM = 40
HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")


def options(root, **changes):
    return PhantomCxr.Options(root=root, **{"num_samples": NUM, "size": 64} | changes)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def table(folder, name):
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cxr"
    draw_films(options(root))
    return root


def studies(num=NUM, seed=0):
    return plan_studies(num, seed=seed, shares=SHARES)


def test_exact_number_and_patientwise_shares():
    for num in (60, 61, 600):
        planned = studies(num)
        counts = Counter(s.split for s in planned for _ in s.pictures)
        assert sum(counts.values()) == num
        for split, share in zip(("train", "validate", "test"), SHARES, strict=True):
            assert abs(counts[split] - share * num) <= 4
        split_of = {}
        for study in planned:
            assert split_of.setdefault(study.subject_id, study.split) == study.split
        assert any(len(study.pictures) == 2 for study in planned)
        assert any(n == 2 for n in Counter(s.subject_id for s in planned).values())


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_every_finding_is_frequent_enough_in_each_split(seed):
    planned = studies(600, seed)
    pictures = [(s, p) for s in planned for p in s.pictures]
    share = Counter(name for s, _ in pictures for name in s.spec.findings)
    for name in FINDINGS:
        assert 0.19 < share[name] / 600 < 0.33
        assert sum(name in s.spec.findings for s, _ in pictures if s.split == "test") >= 20
    normal = sum(not s.spec.findings for s, _ in pictures) / 600
    assert 0.12 < normal < 0.22
    views = Counter(p.view for _, p in pictures)
    assert 0.44 < views["PA"] / 600 < 0.56
    assert 0.29 < views["AP"] / 600 < 0.41
    assert 0.10 < views["lateral"] / 600 < 0.20


def test_a_picture_does_not_depend_on_how_many_there_are():
    few, many = studies(60), studies(200)
    for one, other in zip(few[:-1], many, strict=False):
        assert one.report == other.report
        assert (one.spec, one.split, one.pictures) == (other.spec, other.split, other.pictures)
    study = many[7]
    before = dicom_bytes(study, study.pictures[0], 64)
    dicom_bytes(many[3], many[3].pictures[0], 64)
    assert dicom_bytes(study, study.pictures[0], 64) == before


def test_another_seed_is_another_collection():
    assert [s.spec for s in studies(30)] != [s.spec for s in studies(30, seed=1)]


def test_too_few_for_the_splits():
    with pytest.raises(RequestError, match="leaves nobody for validate"):
        plan_studies(2, seed=0, shares=SHARES)
    assert len(plan_studies(1, seed=0, shares=(1.0, 0.0, 0.0))) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_samples": 0},
        {"seed": -1},
        {"size": 8},
        {"workers": -1},
        {"split_shares": (0.5, 0.1, 0.1)},
    ],
)
def test_options_are_checked(tmp_path, wrong):
    with pytest.raises(RequestError):
        options(tmp_path, **wrong)


def test_dicom_files_are_valid_twelve_bit_films(collection):
    kinds = Counter()
    uids = set()
    for row in table(collection, "mimic-cxr-2.0.0-metadata.csv"):
        path = (
            collection / f"files/p{row['subject_id'][:2]}/p{row['subject_id']}"
            f"/s{row['study_id']}/{row['dicom_id']}.dcm"
        )
        ds = pydicom.dcmread(path)
        pixels = ds.pixel_array
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (16, 12, 11)
        assert ds.PixelRepresentation == 0
        assert pixels.dtype == np.uint16
        assert pixels.shape == (64, 64)
        assert pixels.max() <= 4095
        assert ds.PatientID == row["subject_id"]
        assert ds.ViewPosition == row["ViewPosition"]
        assert f"{ds.Rows}" == row["Rows"]
        assert ds.StudyDate == row["StudyDate"]
        assert float(ds.StudyTime) == float(row["StudyTime"])
        assert ds.Modality == ("CR" if row["ViewPosition"] == "AP" else "DX")
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.SOPInstanceUID.is_valid
        uids.add(ds.SOPInstanceUID)
        kinds[ds.PhotometricInterpretation] += 1
    assert len(uids) == NUM
    assert set(kinds) == {"MONOCHROME1", "MONOCHROME2"}
    assert min(kinds.values()) >= NUM // 4


def test_both_photometric_interpretations_hold_the_same_picture():
    seen = set()
    for study in studies()[:12]:
        picture = study.pictures[0]
        ds = pydicom.dcmread(io.BytesIO(dicom_bytes(study, picture, 64)))
        film = draw_chest(study.spec, 64, study.generator("picture", picture.number))
        expected = np.rint(film * 4095).astype(np.uint16)
        inverted = ds.PhotometricInterpretation == "MONOCHROME1"
        assert ds.PresentationLUTShape == ("INVERSE" if inverted else "IDENTITY")
        assert np.array_equal(4095 - ds.pixel_array if inverted else ds.pixel_array, expected)
        assert np.array_equal(ds.pixel_array, stored_pixels(study, picture, 64))
        seen.add(inverted)
    assert seen == {True, False}


def test_tables_agree_with_the_files_and_each_other(collection):
    metadata = table(collection, "mimic-cxr-2.0.0-metadata.csv")
    records = table(collection, "cxr-record-list.csv")
    splits = table(collection, "mimic-cxr-2.0.0-split.csv")
    labels = table(collection, "mimic-cxr-2.0.0-chexpert.csv")
    ids = [row["dicom_id"] for row in metadata]
    assert ids == [row["dicom_id"] for row in records] == [row["dicom_id"] for row in splits]
    assert len(set(ids)) == NUM
    on_disk = {p.relative_to(collection).as_posix() for p in collection.rglob("*.dcm")}
    assert on_disk == {row["path"] for row in records}
    assert {row["split"] for row in splits} == {"train", "validate", "test"}
    assert list(labels[0]) == ["subject_id", "study_id", *CHEXPERT_LABELS]
    assert len(labels) == len({row["study_id"] for row in labels})
    assert {row["study_id"] for row in labels} == {row["study_id"] for row in metadata}
    for row in table(collection, "cxr-study-list.csv"):
        assert (collection / row["path"]).is_file()
    assert {row[name] for row in labels for name in CHEXPERT_LABELS} <= {"", "1.0", "0.0", "-1.0"}


def test_labels_say_what_is_drawn():
    normal = 0
    for study in studies(300):
        labels, spec = study.report.labels, study.spec
        assert {n for n in FINDINGS if labels.get(n) == 1} == spec.findings
        assert ("No Finding" in labels) == (not spec.findings - {"Support Devices"})
        normal += "No Finding" in labels
        source = study.report.text.split("IMPRESSION:")[-1].split("FINDINGS:")[-1].lower()
        if "Pneumothorax" in labels:
            assert "pneumothorax" in source
        if labels.get("Pneumothorax") == 0:
            assert re.search(r"\b(no|no evidence of)\b[^.]*pneumothorax", source, re.S)
    assert normal > 30


def test_reports_have_mimic_sections_and_carry_side_size_and_lobe():
    planned = studies(300)
    without = [s for s in planned if not s.report.has_impression]
    assert 0.1 < len(without) / len(planned) < 0.28
    for study in planned:
        text = study.report.text
        names = HEADER.findall(text)
        expected = ["EXAMINATION", "INDICATION", "TECHNIQUE", "COMPARISON", "FINDINGS"]
        assert names == expected + ["IMPRESSION"] * study.report.has_impression
        assert "FINAL REPORT" in text.splitlines()[0]
        assert "___" in text
        assert max(map(len, text.splitlines())) <= 80
        said = " ".join(HEADER.split(text)[-1].lower().split())
        spec = study.spec
        if spec.consolidation:
            assert spec.consolidation in said or "lingular" in said
        if spec.nodule:
            assert f"{spec.nodule.side} {spec.nodule.zone} lung" in said
        if spec.pneumothorax:
            assert all(word in said for word in spec.pneumothorax)
        for side, size in spec.effusion.items():
            assert size in said
            assert side in said or "bilateral" in said


def test_report_wording_varies():
    study = next(s for s in studies(100) if s.spec.effusion and s.spec.consolidation)
    texts = {
        write_report(study.spec, ["PA"], np.random.default_rng(seed)).text for seed in range(20)
    }
    assert len(texts) == 20


def test_equal_options_give_equal_bytes_and_a_finished_folder_is_left_alone(collection, tmp_path):
    again = tmp_path / "again"
    draw_films(options(again))
    assert content(again) == content(collection)
    verify(again, phantom_cxr.KIND)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("*")}
    draw_films(options(again, rendering="mimic-jpg"))
    assert before == {path: path.stat().st_mtime_ns for path in again.rglob("*")}


def test_an_interrupted_run_resumes_to_the_same_bytes(collection, tmp_path, monkeypatch):
    real, calls = phantom_cxr.study_files, []

    def failing(study, size):
        calls.append(study.study_id)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return real(study, size)

    root = tmp_path / "cxr"
    monkeypatch.setattr(phantom_cxr, "study_files", failing)
    with pytest.raises(KeyboardInterrupt):
        draw_films(options(root))
    assert not (root / "manifest.json").exists()
    resumed = len(calls)
    draw_films(options(root))
    assert content(root) == content(collection)
    assert len(calls) - resumed < len(studies())  # finished parts were kept


def test_any_number_of_processes_draws_the_same_bytes(collection, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "_FEWEST_PARTS", 2)
    several = options(tmp_path / "cxr", workers=2)
    assert several == replace(several, workers=None)  # it is no part of what is drawn
    draw_films(several)
    assert content(several.root) == content(collection)


def test_who_comes_second_waits_for_the_first(collection, tmp_path):
    """Four commands at once on a folder that is not there: the shards of a Slurm array."""
    root = tmp_path / "cxr"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        others = [pool.apply_async(draw_films, (options(root),)) for _ in range(3)]
        draw_films(options(root))
        for other in others:
            other.get(timeout=300)
    assert content(root) == content(collection)
    assert not (root / ".partial").exists()


def test_waiting_says_so_and_ends_when_the_other_gives_up(
    collection, tmp_path, monkeypatch, caplog
):
    root = tmp_path / "cxr"
    monkeypatch.setattr("arra_med.store.locks._POLL_SECONDS", 0.01)
    inside = threading.Event()

    def hold():
        with drawing._my_turn(root):
            inside.set()
            time.sleep(0.2)

    first = threading.Thread(target=hold)
    first.start()
    assert inside.wait(timeout=300)
    with caplog.at_level("INFO"):
        draw_films(options(root))
    first.join()
    assert [r.message for r in caplog.records if "waiting" in r.message] == [
        f"another process is drawing {root}: waiting for it"
    ]
    assert content(root) == content(collection)


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="not empty and not ours"):
        draw_films(options(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_prompt_options_reach_the_mimic_adapter(collection):
    adapter = PhantomCxr(
        options(collection, prompt_sources=("findings",), prompt_template="{text} [{view}]")
    )
    sample = adapter.complete(next(iter(adapter.items())), str)
    assert sample.prompt_source == "findings"
    assert sample.prompt.endswith(f" [{sample.view}]")
    with pytest.raises(RequestError, match="prompt_sources"):
        options(collection, prompt_sources=("impresion",))


def test_a_folder_of_other_options_is_refused(collection):
    with pytest.raises(RequestError, match="num_samples"):
        draw_films(options(collection, num_samples=NUM + 1))


@pytest.mark.parametrize("rendering", ["clinical", "mimic-jpg"])
def test_everything_enters_through_the_mimic_adapter(collection, rendering):
    adapter = PhantomCxr(options(collection, rendering=rendering))
    worker = pickle.loads(pickle.dumps(adapter))
    found = list(adapter.items())
    assert adapter.num_items() == len(found) == NUM
    assert all(isinstance(item, Sample) for item in found)
    items = [worker.complete(item, str) for item in found]
    planned = {s.study_id: s for s in studies()}
    assert len({item.key for item in items}) == NUM
    for item in items:
        study = planned[item.study_id.removeprefix("s")]
        assert item.split == study.split
        assert item.view in ("PA", "AP", "lateral")
        assert item.prompt.startswith(f"{item.view} view chest x-ray image, ")
        assert item.prompt_source == ("impression" if study.report.has_impression else "findings")
        known = {name: value for name, value in item.labels.items() if value is not None}
        assert known == study.report.labels
    sample = items[0]
    picture = adapter.read(sample)
    assert picture.pixels.shape == (64, 64)
    assert picture.pixels.dtype == np.uint8
    if rendering == "clinical":
        for item in items[:6]:
            study = planned[item.study_id.removeprefix("s")]
            number = [p.dicom_id for p in study.pictures].index(item.key.rpartition("/")[2])
            drawn = study.pictures[number]
            values = stored_pixels(study, drawn, 64)
            film = values if int(drawn.dicom_id[0], 16) % 2 == 0 else 4095 - values
            pixels = adapter.read(item).pixels
            assert np.abs(pixels - film / 4095 * 255).max() < 1.5
