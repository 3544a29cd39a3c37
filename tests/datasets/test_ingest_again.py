"""Ingest that was interrupted, shared or repeated."""

import errno
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arra_med.config import PluginConfig
from arra_med.datasets import source_files
from arra_med.datasets.ingest import ingest
from arra_med.datasets.table import Table
from arra_med.errors import RequestError, WorkError
from arra_med.registry import DATASETS
from arra_med.settings import Ingest
from arra_med.store import (
    MANIFEST,
    PARTIAL,
    Shard,
)
from tests.datasets.ingest_source import NUM, content, settings
from tests.datasets.mimic_release import release


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
