import dataclasses
import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from arra_med import images
from arra_med.config import PluginConfig
from arra_med.datasets import source_files
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
    Shard,
    sha256_file,
    verify,
)
from tests.datasets.mimic_release import release

NUM = 23


@pytest.fixture
def source(tmp_path):
    """23 rows: 20 pictures of several sizes, one broken, one missing, one without words."""
    folder = tmp_path / "source"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for index in range(NUM):
        name = f"film {index:02d}.png"
        picture = rng.integers(0, 256, (40 + index, 64 - index), np.uint8)
        if index == 7:
            (folder / name).write_bytes(b"no picture")
        elif index != 9:
            Image.fromarray(picture).save(folder / name)
        text = "" if index == 11 else f"report {index}"
        rows.append(f"{name},{text},p{index // 2},{'test' if index > 15 else 'train'}")
    (folder / "films.csv").write_text("file,text,patient,split\n" + "\n".join(rows) + "\n")
    return folder


def settings(source, **changes):
    options = Table.Options(
        file=source / "films.csv", image="file", text="text", patient="patient", split="split"
    )
    return Ingest(
        dataset=PluginConfig(name="table", options=options),
        **{"size": 32, "part_size": 5, "workers": 0} | changes,
    )


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


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


def test_a_changed_source_is_not_resumed(source, tmp_path, monkeypatch):
    folder = tmp_path / "out"

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("arra_med.datasets.ingest._Job.finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ingest(settings(source), folder)
    table = source / "films.csv"
    original = table.read_text()
    table.write_text(original.replace("report 3", "report three"))
    with pytest.raises(
        RequestError, match=r"unfinished work .* in \S+films.csv, which has changed"
    ):
        ingest(settings(source), folder)
    table.write_text(original)
    items = Table.items
    with monkeypatch.context() as patch:  # as of a folder that is listed
        patch.setattr(Table, "items", lambda self: reversed(list(items(self))))
        with pytest.raises(RequestError, match="the source changed"):
            ingest(settings(source), folder)
    assert ingest(settings(source), folder)["counts"]["samples"] == 20


@pytest.mark.parametrize("name", ["mimic-cxr", "deepeyenet"])
def test_every_table_of_a_public_set_is_compared(tmp_path, name):
    root, out = tmp_path / "source", tmp_path / "out"
    if name == "mimic-cxr":
        changed = release(root) / "mimic-cxr-2.0.0-split.csv"
    else:
        root.mkdir()
        changed = root / "DeepEyeNet_train.json"
        changed.write_text(json.dumps([{"a.png": {"keywords": "x", "clinical-description": "y"}}]))
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(
            root / "a.png"
        )
    few = {"min_keyword_count": 1} if name == "deepeyenet" else {}
    options = DATASETS.get(name).Options(root=root, **few)
    chosen = Ingest(dataset=PluginConfig(name=name, options=options), size=32, workers=0)
    ingest(chosen, out)
    changed.write_bytes(changed.read_bytes() + b"\n")
    with pytest.raises(RequestError, match=rf"{changed.name}, which has changed since"):
        ingest(chosen, out)
    shutil.rmtree(root)
    assert ingest(chosen, out)["counts"]["samples"] > 0  # what is finished is whole without it


def test_a_table_that_was_edited_is_not_taken_for_the_one_before(source, tmp_path):
    ingest(settings(source), tmp_path / "out")
    table = source / "films.csv"
    original = table.read_text()
    table.write_text(original.replace("report 3", "report three"))
    with pytest.raises(RequestError, match=r"in \S+films.csv, which has changed since\. Choose"):
        ingest(settings(source), tmp_path / "out")
    with pytest.raises(RequestError, match=r"in size \(32 there, 16 asked for\), .*changed"):
        ingest(settings(source, size=16), tmp_path / "out")
    table.unlink()  # what is finished is whole without it
    ingest(settings(source), tmp_path / "out")


def failing_reads(monkeypatch, error, numbers):
    """Readings of pictures that fail, by their number."""
    read_bytes, count = Path.read_bytes, itertools.count()

    def read(path):
        if path.suffix == ".png" and next(count) in numbers:
            raise error
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr(source_files, "_WAITS", (0.0, 0.0))


STALE = OSError(errno.ESTALE, "Stale file handle")


@pytest.mark.parametrize("error", [STALE, MemoryError()], ids=repr)
def test_trouble_that_lasts_ends_the_run_and_costs_no_picture(source, tmp_path, monkeypatch, error):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        failing_reads(patch, error, range(6, 100))
        with pytest.raises(WorkError, match=r"film 06\.png could not be read .* to resume"):
            ingest(settings(source), folder)
    assert _parts_done(folder) == 1
    assert ingest(settings(source), folder)["counts"]["samples"] == 20


def test_trouble_that_passes_is_waited_for(source, tmp_path, monkeypatch):
    failing_reads(monkeypatch, STALE, (3, 4, 12))
    assert ingest(settings(source), tmp_path / "out")["counts"]["samples"] == 20


@pytest.mark.parametrize("workers", [0, 1])
def test_lack_of_memory_in_a_decoder_ends_the_run(source, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(DATASETS, "get", lambda name: Forgetful)
    with pytest.raises(WorkError, match=r"film 03\.png could not be read \(out of mem.*fewer work"):
        ingest(settings(source, workers=workers), tmp_path / "out")


class Forgetful(Table):
    def read(self, sample):
        if "03" in sample.source:
            raise MemoryError
        return super().read(sample)


def test_logs_hold_no_report_and_no_path(source, tmp_path, caplog):
    caplog.set_level("DEBUG")
    ingest(settings(source), tmp_path / "out")
    assert "report" not in caplog.text
    assert str(source) not in caplog.text


CHILD = """
import sys
from pathlib import Path
from arra_med.config import build
from arra_med.datasets.ingest import ingest
from arra_med.settings import Ingest
if __name__ == "__main__":
    source, folder, workers = sys.argv[1:]
    tree = {"name": "table", "file": source + "/films.csv", "image": "file", "text": "text",
            "patient": "patient", "split": "split"}
    chosen = {"dataset": tree, "size": 32, "part_size": 1, "workers": int(workers)}
    ingest(build(Ingest, chosen, where="test"), Path(folder))
"""


def _start(tmp_path, source, folder, workers):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    return subprocess.Popen(
        [sys.executable, str(script), str(source), str(folder), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _parts_done(folder):
    return len(list((folder / PARTIAL).glob("done-*.json")))


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_at_random_moments_and_resumed_gives_the_same_bytes(source, tmp_path, workers):
    ingest(settings(source, part_size=1), tmp_path / "undisturbed")
    moments = random.Random(workers)
    folder = tmp_path / "killed"
    found_unfinished = []
    for wanted in sorted(moments.sample(range(NUM - 4), 3 - workers)):
        process = _start(tmp_path, source, folder, workers)
        while process.poll() is None and _parts_done(folder) < wanted:
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, 0.005))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
        found_unfinished.append(not (folder / MANIFEST).exists())
    assert found_unfinished[0], "the first kill came in the middle of the work"
    final = _start(tmp_path, source, folder, workers)
    _, errors = final.communicate(timeout=300)
    assert final.returncode == 0, errors
    assert content(folder) == content(tmp_path / "undisturbed")


def test_shards_in_any_order_joined_equal_one_run(source, tmp_path):
    ingest(settings(source), tmp_path / "alone")
    for index in (2, 0, 3):  # shard 1 never ran: the joining run does its parts
        assert ingest(settings(source), tmp_path / "shards", shard=Shard(index, 4)) == {}
        assert not (tmp_path / "shards" / MANIFEST).exists()
    ingest(settings(source), tmp_path / "shards")
    assert content(tmp_path / "alone") == content(tmp_path / "shards")


def test_a_shard_of_a_finished_folder_has_nothing_to_do(source, tmp_path):
    manifest = ingest(settings(source), tmp_path / "out")
    assert ingest(settings(source), tmp_path / "out", shard=Shard(0, 2)) == manifest


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
