import dataclasses
import json
import os
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from arra_med import images
from arra_med.config import PluginConfig
from arra_med.datasets.ingest import ingest
from arra_med.datasets.table import Table
from arra_med.errors import RequestError, WorkError
from arra_med.registry import DATASETS
from arra_med.schema import Sample
from arra_med.settings import Ingest, Privacy
from arra_med.store import (
    MANIFEST,
    PARTIAL,
    PartWriter,
    PreparedFolder,
    sha256_file,
    verify,
)
from tests.datasets.ingest_source import NUM, content, settings


def test_every_item_is_a_row_or_a_line(source, tmp_path):
    manifest = ingest(settings(source), tmp_path / "out")
    assert manifest["counts"] == {"found": NUM, "samples": 20, "excluded": 3}
    assert manifest["excluded_by_reason"] == {
        "unreadable-image": 1, "missing-image": 1, "no-prompt": 1,
    }  # fmt: skip
    assert manifest["samples_by_split"] == {"train": 13, "validate": 0, "test": 7}
    assert manifest["channels"] == 1
    assert manifest["patients_in_several_splits"] == 0
    assert "workers" not in manifest["config"]
    lines = (tmp_path / "out/excluded.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == [
        "unreadable-image", "missing-image", "no-prompt",
    ]  # fmt: skip
    assert not (tmp_path / "out" / PARTIAL).exists()
    verify(tmp_path / "out", "prepared")


def test_rows_and_pictures_are_the_source_s(source, tmp_path):
    ingest(settings(source), tmp_path / "out")
    prepared = PreparedFolder(tmp_path / "out")
    rows = prepared.rows()
    pictures = dict(prepared.iter_images())
    assert list(pictures) == [row["key"] for row in rows]
    for row in rows:
        path = source / row["source"]
        original = np.asarray(Image.open(path))
        assert row["source_sha256"] == sha256_file(path)
        assert (row["height"], row["width"]) == original.shape
        expected = images.fit(original, 32, "center-crop")
        np.testing.assert_array_equal(images.decode_png(pictures[row["key"]])[..., 0], expected)


def test_pandas_and_hugging_face_open_it(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    folder = tmp_path / "out"
    ingest(settings(source), folder)
    frame = pd.read_parquet(folder / "samples.parquet")
    assert len(frame) == 20
    assert frame["labels"].iloc[0]["Edema"] is None
    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(folder / "images/*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded["key"] == frame["key"].tolist()
    assert isinstance(loaded[0]["image"], Image.Image)
    assert loaded[0]["image"].size == (32, 32)


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(source, tmp_path, workers):
    ingest(settings(source), tmp_path / "alone")
    ingest(settings(source, workers=workers), tmp_path / "several")
    assert content(tmp_path / "alone") == content(tmp_path / "several")


def test_a_part_without_samples(source, tmp_path):
    manifest = ingest(settings(source, part_size=1), tmp_path / "out")
    assert manifest["counts"]["samples"] == 20
    prepared = PreparedFolder(tmp_path / "out")
    assert prepared.read_part(7) == []
    assert len(dict(prepared.iter_images())) == 20


def test_finished_work_is_kept_and_other_work_refused(source, tmp_path, caplog):
    folder = tmp_path / "out"
    manifest = ingest(settings(source), folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    caplog.set_level("INFO")
    for path in source.glob("*.png"):
        path.unlink()  # nothing is read again
    assert ingest(settings(source, workers=1), folder) == manifest
    assert "already done" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(RequestError, match="size"):
        ingest(settings(source, size=16), folder)


def test_two_writers_are_refused(source, tmp_path):
    folder = tmp_path / "out"
    with (
        PartWriter(folder, kind="prepared", config={}),
        pytest.raises(RequestError, match="another process"),
    ):
        ingest(settings(source), folder)


def test_no_sample_is_a_failure_that_binds_nobody(source, tmp_path):
    folder = tmp_path / "out"
    pictures = {path: path.read_bytes() for path in source.glob("*.png")}
    for path in pictures:
        path.write_bytes(b"no picture")
    with pytest.raises(WorkError, match=r"none of 23 items.*unreadable-image: 21.*The first: "):
        ingest(settings(source), folder)
    assert not (folder / MANIFEST).exists()
    assert len((folder / PARTIAL / "excluded.jsonl").read_text().splitlines()) == NUM
    for path in pictures:
        path.unlink()
    with pytest.raises(WorkError, match=r"none of 23 items.*missing-image: 2"):
        ingest(settings(source), folder)
    for path, data in pictures.items():
        path.write_bytes(data)
    chosen = settings(source, size=16, part_size=9)  # fewer parts than the attempts that failed
    assert ingest(chosen, folder)["counts"]["samples"] == 20
    verify(folder, "prepared")


def test_a_patient_in_two_splits_is_counted(source, tmp_path, caplog):
    table = source / "films.csv"
    table.write_text(table.read_text().replace("p7,train", "p8,train"))
    assert ingest(settings(source), tmp_path / "out")["patients_in_several_splits"] == 1
    assert "1 patient has pictures in more than one split" in caplog.text
    assert "p8" not in caplog.text


def test_the_grave_warnings_of_the_card_stand_in_the_log(source, tmp_path, caplog):
    (source / "film 20.png").write_bytes((source / "film 00.png").read_bytes())
    ingest(settings(source), tmp_path / "out")
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    for text in (
        "1 source file (byte for byte) is in more than one split",
        "The validate split is empty.",
        "The test split has only 7 pictures of 4 patients",
    ):
        assert any(text in line for line in said), text
    assert not any("Enlarged" in line for line in said)  # of the card alone
    table = source / "films.csv"
    table.write_text(re.sub("report [0-5],", ",", table.read_text()))
    caplog.set_level("INFO")
    ingest(settings(source), tmp_path / "few")
    assert "excluded for one reason, no-prompt" in caplog.text
    assert "excluded: 7 no-prompt; the first: column 'text' has no words" in caplog.text


def test_logs_hold_no_report_and_no_path(source, tmp_path, caplog):
    caplog.set_level("DEBUG")
    ingest(settings(source), tmp_path / "out")
    assert "report" not in caplog.text
    assert str(source) not in caplog.text


class Miscounting(Table):
    def num_items(self):
        return super().num_items() + 1


def test_an_adapter_that_loses_items_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(DATASETS, "get", lambda name: Miscounting)
    with pytest.raises(WorkError, match="counted 24 items and gave 23"):
        ingest(settings(source), tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST).exists()


class Repeating(Table):
    def items(self):
        for item in super().items():
            yield dataclasses.replace(item, key="same") if isinstance(item, Sample) else item


def test_an_adapter_that_repeats_keys_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(DATASETS, "get", lambda name: Repeating)
    with pytest.raises(WorkError, match="gave 19 keys twice"):
        ingest(settings(source), tmp_path / "out")


def test_an_output_inside_a_walked_source_is_refused(source, tmp_path):
    options = Table.Options(file=source, text_suffix=".txt")
    chosen = Ingest(dataset=PluginConfig(name="table", options=options), workers=0)
    with pytest.raises(RequestError, match="lies inside the source"):
        ingest(chosen, source / "work" / "prepared")
    assert not (source / "work").exists()


def test_a_folder_whose_name_is_not_unicode_does_not_end_the_ingest(source, tmp_path, monkeypatch):
    folder = tmp_path / "films"
    for name in ("ok", os.fsdecode(b"M\xfcller")):
        (folder / name).mkdir(parents=True)
        (source / f"film {len(name):02d}.png").rename(folder / name / "a.png")
        (folder / name / "a.txt").write_text("Clear.")
    options = Table.Options(file=folder, text_suffix=".txt", patient="top_folder")
    chosen = Ingest(dataset=PluginConfig(name="table", options=options), size=16, workers=0)
    manifest = ingest(chosen, tmp_path / "out")
    assert manifest["excluded_by_reason"] == {"not-unicode": 1}
    assert PreparedFolder(tmp_path / "out").rows()[0]["patient_id"] == "ok"
    monkeypatch.setenv("ARRA_MED_HASH_KEY", "k" * 32)
    hashed = dataclasses.replace(chosen, privacy=Privacy(hash_ids=True))
    assert ingest(hashed, tmp_path / "hashed")["counts"]["samples"] == 2


def test_a_key_without_hashes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="hash_ids"):
        Privacy(key_file=tmp_path / "key")


def test_the_folder_describes_itself(source, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "out"
    ingest(settings(source), folder)
    assert "excluded: 1 no-prompt" in caplog.text
    assert json.loads((folder / "card.json").read_text())["counts"]["samples"] == 20
    assert "contact-sheet.png" in (folder / "README.md").read_text()
    assert Image.open(folder / "contact-sheet.png").size[0] > 32


@pytest.mark.real_data
def test_real_films_through_ingest(tmp_path, real_data):
    folder = real_data / "cxr_open"
    options = Table.Options(
        file=folder / "metadata.csv", image="file", text="text", view="view",
        patient="patientid", label_column="findings",
    )  # fmt: skip
    chosen = Ingest(
        dataset=PluginConfig(name="table", options=options), size=64, part_size=50, workers=0
    )
    manifest = ingest(chosen, tmp_path / "out")
    counts = manifest["counts"]
    assert counts["found"] == 176 == counts["samples"] + counts["excluded"]
    assert manifest["excluded_by_reason"] == {"no-prompt": 43, "conflicting-patients": 8}
    assert manifest["patients_in_several_splits"] == 0
