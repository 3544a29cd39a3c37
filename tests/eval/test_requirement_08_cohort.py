"""Requirement 8: official split, one row an image, counts that add up, uncertain labels stated."""

import csv
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from arra_med.config import PluginConfig
from arra_med.datasets.ingest import ingest
from arra_med.datasets.mimic_cxr import MimicCxr
from arra_med.errors import RequestError
from arra_med.eval import consistency
from arra_med.eval.cohort import load_cohort, represents
from arra_med.eval.consistency import Verdicts, judge_finding
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.plain_folder import open_pictures
from arra_med.generation.folder import GENERATIONS_SCHEMA, image_name
from arra_med.generation.prompts import evenly
from arra_med.images import encode_png
from arra_med.schema import Sample
from arra_med.settings import Ingest
from arra_med.store import PartWriter, PreparedFolder
from tests.datasets import mimic_release
from tests.prepared import save_prepared

SIZE = 16
SPLITS = ("train", "validate", "test")
ROWS = [
    ("a1", "10000032", "50000001", "train", "PA", ""),
    ("b1", "10000764", "50000002", "validate", "AP", ""),
    ("c1", "11000011", "50000003", "test", "PA", ""),  # one study of two pictures
    ("c2", "11000011", "50000003", "test", "LL", ""),
    ("c3", "11000011", "50000013", "test", "AP", ""),  # another of the same patient
    ("d1", "11000012", "50000004", "test", "PA", ""),
    ("f1", "11000014", "50000006", None, "PA", ""),  # not in the split table
]


def write_prepared(folder, num=30, labels=(1, 0, -1, None)):
    rng = np.random.default_rng(0)
    items = []
    for i in range(num):
        sample = Sample(
            key=f"p{i // 2:03d}/s{i:03d}", patient_id=f"p{i // 2:03d}", study_id=f"s{i:03d}",
            split=SPLITS[(i // 2) % 3], view="PA", prompt=f"a prompt, number {i}",
            prompt_source="impression", modality="cxr", source=f"{i}.png",
            labels={"Edema": labels[i // 6 % len(labels)], "Fracture": 0},
        )  # fmt: skip
        items.append((sample, rng.integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8)))
    return save_prepared(folder, items)


def draw(folder, prepared, samples, images_per_prompt=1, broken=()):
    """A generated folder for some samples; ``broken``: places of pictures that cannot be read."""
    rng = np.random.default_rng(1)
    rows, files = [], {}
    shape = (prepared.image_size, prepared.image_size, prepared.channels)
    for sample in samples:
        for index in range(images_per_prompt):
            name = image_name(sample["key"], index)
            picture = encode_png(rng.integers(0, 256, shape, dtype=np.uint8))
            files[name] = b"broken" if len(rows) in broken else picture
            rows.append({"key": sample["key"], "index": index, "prompt": sample["prompt"],
                         "file": name, "seed": 0})  # fmt: skip
    config = {"model": {"name": "m", "teacher": None}, "images_per_prompt": images_per_prompt}
    with PartWriter(folder, kind="generated", config=config) as writer:
        writer.write_part(0, files, {"images": len(rows)})
        table = pa.Table.from_pylist(rows, GENERATIONS_SCHEMA)
        writer.finish(1, {"generations.parquet": table})
    return open_pictures(folder, prepared)


def counts(cohort):
    return [step["count"] for step in cohort.flow]


@pytest.fixture
def mimic(tmp_path, monkeypatch):
    """A tiny MIMIC-CXR with its official split table, ingested."""
    monkeypatch.setattr(mimic_release, "ROWS", ROWS)
    monkeypatch.setattr(
        mimic_release, "REPORTS",
        {(row[1], row[2]): " FINAL REPORT\n IMPRESSION: Clear.\n" for row in ROWS},
    )  # fmt: skip
    root = mimic_release.release(tmp_path / "mimic", suffix=".jpg")
    plugin = PluginConfig(name="mimic-cxr", options=MimicCxr.Options(root=root))
    ingest(Ingest(dataset=plugin, size=SIZE, workers=0), tmp_path / "prepared")
    return PreparedFolder(tmp_path / "prepared")


def test_requirement_8_the_cohort_is_the_official_split(mimic, tmp_path):
    with (tmp_path / "mimic" / "mimic-cxr-2.0.0-split.csv").open() as file:
        official = {row["dicom_id"]: row["split"] for row in csv.DictReader(file)}
    cohort = load_cohort(mimic, draw(tmp_path / "generated", mimic, mimic.rows("test")))
    found = {sample["key"].rpartition("/")[2] for sample in cohort.samples}
    assert found == {dicom for dicom, split in official.items() if split == "test"}
    assert (cohort.dataset, cohort.split) == ("mimic-cxr", "test")
    others = {row["patient_id"] for row in mimic.rows() if row["split"] != "test"}
    assert others.isdisjoint(cohort.patients)


def test_requirement_8_one_row_an_image(mimic, tmp_path):
    """Two pictures of a study, and two studies of a patient, are rows of their own."""
    cohort = load_cohort(mimic, draw(tmp_path / "generated", mimic, mimic.rows("test")))
    keys = [sample["key"].rpartition("/")[2] for sample in cohort.samples]
    assert sorted(keys) == ["c1", "c2", "c3", "d1"]
    assert len(set(cohort.keys)) == len(cohort.keys) == len(cohort.pictures) == 4
    assert set(cohort.real) == {sample["key"] for sample in cohort.samples}
    by_key = {sample["key"]: sample for sample in cohort.samples}
    for row, sample, patient in zip(
        cohort.generated, cohort.sample_of, cohort.patients, strict=True
    ):
        assert sample == by_key[row["key"]]  # paired by key, not by place
        assert patient == sample["patient_id"]
    assert len(set(cohort.patients)) == 2
    assert {sample["view"] for sample in cohort.samples} == {"PA", "AP", "lateral"}


@pytest.mark.parametrize("images_per_prompt", [1, 3])
@pytest.mark.parametrize("split", ["test", "validate"])
@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("broken", [(), (0, 2)])
def test_requirement_8_counts_add_up(
    tmp_path, monkeypatch, images_per_prompt, split, limit, broken
):
    monkeypatch.setattr("arra_med.eval.cohort.MOST_UNREADABLE", 1.0)
    prepared = write_prepared(tmp_path / "prepared")
    samples = prepared.rows(split)[:limit]
    generated = draw(tmp_path / "generated", prepared, samples, images_per_prompt, broken)
    cohort = load_cohort(prepared, generated)
    all_, elsewhere, real, not_drawn, drawn, made, unreadable, evaluated = counts(cohort)
    assert all_ == len(prepared.keys) == elsewhere + real
    assert real == not_drawn + drawn == len(cohort.samples)
    assert drawn == len(samples)
    assert made == drawn * images_per_prompt == unreadable + evaluated
    assert unreadable == len(broken) == len(cohort.unreadable)
    assert evaluated == len(cohort.pictures) == len(cohort.generated) == len(cohort.patients)
    told = cohort.to_json()
    assert told["prompts"] == len(cohort.prompts) <= drawn
    assert sum(told["views"].values()) == told["prompts"]
    assert sum(told["labels_from"].values()) == real
    assert (told["generated"], told["real"]) == (evaluated, real)


def test_requirement_8_prompts_of_two_splits_are_refused(tmp_path):
    prepared = write_prepared(tmp_path / "prepared")
    mixed = [prepared.rows("test")[0], prepared.rows("train")[0]]
    with pytest.raises(RequestError, match=r"mixes prompts of the splits \['test', 'train'\]"):
        load_cohort(prepared, draw(tmp_path / "generated", prepared, mixed))


def test_requirement_8_labels_of_every_prompt_are_counted_once(tmp_path):
    prepared = write_prepared(tmp_path / "prepared")
    generated = draw(tmp_path / "generated", prepared, prepared.rows("test"), 2)
    prompts = load_cohort(prepared, generated).prompts
    for finding in prepared.label_names:
        found = consistency.count_labels([sample["labels"][finding] for sample in prompts])
        assert sum(found.values()) == len(prompts) == 10
    assert consistency.count_labels([1, 0, 0, -1, None]) == {
        "positives": 1, "negatives": 2, "uncertain": 1, "unknown": 1,
    }  # fmt: skip


def test_requirement_8_uncertain_labels_are_left_out_as_is_stated():
    """What the judge says of pictures with an uncertain or unknown label changes no rate."""
    assert consistency.UNCERTAIN_POLICY == "left out"
    rng = np.random.default_rng(2)
    labels = np.array([1.0, 0.0, -1.0, np.nan] * 30)
    known = (labels == 1) | (labels == 0)
    verdicts = Verdicts(
        labels=labels, generated=rng.random(120), real=rng.random(120), threshold=0.5
    )
    turned = replace(
        verdicts,
        generated=np.where(known, verdicts.generated, 1 - verdicts.generated),
        real=np.where(known, verdicts.real, 0.9),
    )
    bootstrap = ClusteredBootstrap(
        [str(i // 2) for i in range(120)], replicates=100, generator=np.random.default_rng(3)
    )
    first, second = (judge_finding(one, bootstrap) for one in (verdicts, turned))
    for name in (
        "auroc_real", "auroc_generated", "auroc_difference", "sensitivity", "specificity",
        "missed_per_100", "invented_per_100", "real_missed_per_100", "real_invented_per_100",
    ):  # fmt: skip
        assert first[name] == second[name], name
    assert first["agreement"] != second["agreement"]  # over all prompts, as its docstring says
    assert first["unmentioned"] == 30  # unknown is not uncertain
    assert consistency.balanced_threshold(labels, verdicts.real) == consistency.balanced_threshold(
        labels[known], verdicts.real[known]
    )


def test_a_part_of_the_split_is_held_against_all_of_it_only_if_evenly_spread(tmp_path):
    prepared = write_prepared(tmp_path / "prepared")
    samples = [row for row in prepared.rows() if row["split"] == "test"]
    for name, chosen, even in (
        ("all", samples, True),
        ("limit", evenly(samples, 4), True),
        ("first", samples[:4], False),
    ):
        generated = draw(tmp_path / name, prepared, chosen)
        cohort = load_cohort(prepared, generated)
        assert (cohort.represents_split, cohort.to_json()["represents_split"]) == (even, even)
    keys = [str(i) for i in range(300)]
    assert represents(keys[3:], keys)  # all but 1 in 100
    assert not represents(keys[4:], keys)
