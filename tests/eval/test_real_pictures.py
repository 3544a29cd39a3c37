"""What is known of real pictures is not computed again; no result rests on where it came from."""

import importlib
import os
import shutil

import numpy as np
import pytest
from torch import nn

from arra_med.config import PluginConfig
from arra_med.eval import evaluate as evaluate_module
from arra_med.eval import stage as stage_module
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.picture_facts import PictureFacts, prepared_facts
from arra_med.eval.real_pictures import FOLDER, RealPictures, code_of
from arra_med.settings import Memorisation
from arra_med.store import PreparedFolder, try_lock
from tests.eval.little import QUICK

OF_REAL = (": real", ": views", ": reference", ": thresholds", "files")


@pytest.fixture
def asked(monkeypatch):
    """What networks are asked about, and whether files are looked at."""
    heard = []
    predict, look = stage_module.predict, evaluate_module.prepared_facts

    def listen(*arguments, what, **more):
        heard.append(what)
        return predict(*arguments, what=what, **more)

    def watch(*arguments, **more):
        heard.append("files")
        return look(*arguments, **more)

    monkeypatch.setattr(stage_module, "predict", listen)
    monkeypatch.setattr(evaluate_module, "prepared_facts", watch)
    return heard


@pytest.fixture
def prepared(base, tmp_path) -> PreparedFolder:
    """One of which nothing is known."""
    ignored = shutil.ignore_patterns(FOLDER)
    shutil.copytree(base / "prepared", tmp_path / "prepared", ignore=ignored)
    return PreparedFolder(tmp_path / "prepared")


@pytest.fixture
def evaluate_again(run, prepared):
    """Evaluates against it, without a search for copies unless told otherwise."""

    def run_it(name="evaluation", **changes):
        changes = {"memorisation": Memorisation(enabled=False)} | changes
        return run(name, prepared_folder=prepared.folder, **changes)

    return run_it


def about_real(asked):
    return [what for what in asked if what.endswith(OF_REAL)]


@pytest.mark.usefixtures("generated")
def test_a_second_evaluation_asks_about_generated_pictures_alone(evaluate_again, asked):
    first = evaluate_again("first")
    assert len(about_real(asked)) >= 5, asked
    of_generated = set(asked) - set(about_real(asked))
    asked.clear()
    second = evaluate_again("second")
    assert about_real(asked) == []
    assert set(asked) == of_generated
    assert (first / "results.json").read_bytes() == (second / "results.json").read_bytes()


@pytest.mark.usefixtures("generated")
def test_the_search_for_copies_keeps_nothing_of_training_pictures(evaluate_again, prepared):
    evaluate_again(memorisation=Memorisation(planted=5))
    sizes = [path.stat().st_size for path in (prepared.folder / FOLDER).rglob("*")
             if path.is_file() and path.name != "facts"]  # fmt: skip
    assert max(sizes) > 0
    assert max(sizes) < len(prepared.rows("train")) * QUICK["dimension"] * 4


@pytest.mark.usefixtures("generated")
def test_another_network_is_asked(evaluate_again, asked, tmp_path):
    evaluate_again("first")
    of_first = about_real(asked)
    asked.clear()
    options = CnnOptions(weights=tmp_path / "other", **QUICK | {"dimension": 9})
    other = PluginConfig(name="cnn", options=options)
    evaluate_again("second", judges=(other,), extractors=(other,))
    assert len(about_real(asked)) == len(of_first) - 1
    assert "files" not in asked


@pytest.mark.usefixtures("generated")
def test_a_folder_that_cannot_be_written_costs_a_warning(evaluate_again, asked, prepared, caplog):
    (prepared.folder / FOLDER).write_text("in the way")
    first = evaluate_again("first")
    second = evaluate_again("second")
    assert asked.count("files") == 2
    assert caplog.text.count("is not kept for the next evaluation") == 2  # once each
    assert (first / "results.json").read_bytes() == (second / "results.json").read_bytes()


def test_facts_come_back_as_they_were(prepared):
    facts = [*prepared_facts(prepared), PictureFacts(name="bad", problem="OSError")]
    known = RealPictures(prepared)
    assert known.facts(lambda: facts) == facts
    assert known.facts(lambda: pytest.fail("it is known")) == facts


def test_changed_picture_files_are_looked_at_again(prepared):
    RealPictures(prepared).facts(list)
    part = prepared.image_parts[0]
    os.utime(part, ns=(0, part.stat().st_mtime_ns + 1))
    looked = [PictureFacts(name="again")]
    assert RealPictures(prepared).facts(lambda: looked) == looked


@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
def test_damaged_files_are_made_again(prepared, caplog, damage):
    known = RealPictures(prepared)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    source, keys = {"plugin": "cnn"}, ["a", "b", "c"]
    known.outputs(source, keys, lambda: values)
    known.facts(list)
    for path in (prepared.folder / FOLDER).glob("*/[!l]*"):
        whole = path.read_bytes()
        changed = whole[:-1] + bytes([whole[-1] ^ 1])
        path.write_bytes({"empty": b"", "cut": whole[:-1], "changed": changed}[damage])
    assert (known.outputs(source, keys, lambda: values + 1) == values + 1).all()
    assert known.facts(list) == []
    assert caplog.text.count("is damaged: it is made again") == 2
    assert (known.outputs(source, keys, lambda: pytest.fail("it is known")) == values + 1).all()


def test_a_plug_in_whose_code_changed_is_another_network(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "from torch import nn\nclass Own(nn.Module):\n    transform = staticmethod(abs)\n"
    path = tmp_path / "own_plugin.py"
    path.write_text(code)
    network = nn.Sequential(importlib.import_module("own_plugin").Own())
    before = code_of(network)
    assert code_of(network) == before
    path.write_text(code + "# changed\n")
    assert code_of(network) != before


def test_outputs_of_other_keys_or_sources_are_others(prepared):
    known = RealPictures(prepared)
    asked = [({"w": 1}, ["a", "b"]), ({"w": 1}, ["b", "a"]), ({"w": 2}, ["a", "b"])]
    given = [np.full((2, 1), n, np.float32) for n in range(3)]
    for (source, keys), values in zip(asked, given, strict=True):
        assert known.outputs(source, keys, lambda values=values: values) is values
    for (source, keys), values in zip(asked, given, strict=True):
        assert (known.outputs(source, keys, list) == values).all()


def test_what_another_process_is_writing_is_left_to_it(prepared):
    known = RealPictures(prepared)
    known.facts(list)
    (path,) = (prepared.folder / FOLDER).rglob("lock")
    values = np.ones((1, 1), np.float32)
    with path.open("a") as lock:
        assert try_lock(lock.fileno())
        assert known.outputs({}, ["a"], lambda: values) is values
        assert {one.name for one in path.parent.iterdir()} == {"facts", "lock"}
    assert known.outputs({}, ["a"], lambda: values) is values
    assert len(list(path.parent.iterdir())) == 3
