"""What is known of real pictures is not computed again; no result rests on where it came from."""

import errno
import importlib
import os
import shutil
import sys

import numpy as np
import pytest
from torch import nn
from torchvision.transforms import Compose

from arra_med.config import PluginConfig
from arra_med.eval import evaluate as evaluate_module
from arra_med.eval import real_pictures
from arra_med.eval import stage as stage_module
from arra_med.eval.cnn import CnnOptions
from arra_med.eval.picture_facts import PictureFacts, prepared_facts
from arra_med.eval.real_pictures import FOLDER, RealPictures, code_of
from arra_med.settings import Memorisation
from arra_med.store import PreparedFolder, files, try_lock
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


@pytest.mark.parametrize("upgraded", ["torch", "torchxrayvision", "scikit-learn"])
def test_pictures_are_looked_at_again_by_other_libraries(prepared, monkeypatch, upgraded):
    RealPictures(prepared).facts(list)
    version = files.version
    monkeypatch.setattr(files, "version", lambda name: version(name) + "+" * (name == upgraded))
    looked = [PictureFacts(name="again")]
    assert RealPictures(prepared).facts(lambda: looked) == looked


def test_pictures_are_looked_at_again_by_other_code_of_ours(prepared, monkeypatch):
    read = real_pictures._sources(real_pictures._roots("arra_med"))
    assert {
        "images.py", "picture_loader.py", "store/files.py", "eval/inference.py",
        "eval/picture_facts.py", "eval/cnn.py", "teachers/preprocess.py",
    } <= read.keys()  # fmt: skip
    RealPictures(prepared).facts(list)
    edited = {**read, "picture_loader.py": read["picture_loader.py"] + b"# edited"}
    monkeypatch.setattr(real_pictures, "_sources", lambda roots: edited)
    known = [PictureFacts(name="known")]
    assert RealPictures(prepared).facts(lambda: known) == []  # what runs was read once
    real_pictures._lasting_hash.cache_clear()
    try:
        assert RealPictures(prepared).facts(lambda: known) == known
    finally:
        real_pictures._lasting_hash.cache_clear()


PLUGIN = {
    "own_plugin.py": """
from functools import partial
from own_base import Base
from own_package.steps import LAST
def prepare(picture, size):
    from own_late import late
    return late(picture)
class Own(Base):
    transform = partial(prepare, size=3)
""",
    "own_base.py": "from torch import nn\nclass Base(nn.Module): pass\n",
    "own_late.py": "def late(picture): return picture\n",
    "own_package/__init__.py": "",
    "own_package/steps.py": "from .inner import table\nLAST = table[-1]\nclass Step: pass\n",
    "own_package/inner.py": "table = [1, 2]\ndef step(picture, *more): return picture\n",
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A plug-in of several files, and modules that nothing rests on."""
    for name, source in {**PLUGIN, "own_notes.py": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def edit(path):
    path.write_text(path.read_text() + "# edited\n")


@pytest.mark.parametrize("name", PLUGIN)
def test_a_plug_in_any_of_whose_files_changed_is_another_network(own, name):
    network = nn.Sequential(importlib.import_module("own_plugin").Own())
    before = code_of(network)
    edit(own / "own_notes.py")
    assert code_of(network) == before
    edit(own / name)
    assert code_of(network) != before


def test_our_networks_and_the_libraries_are_no_plug_in():
    network = nn.Sequential(nn.Linear(2, 2))
    network.transform = Compose([abs])
    assert code_of(network) == code_of(nn.Identity())


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
        assert try_lock(lock.fileno(), path)
        assert known.outputs({}, ["a"], lambda: values) is values
        assert {one.name for one in path.parent.iterdir()} == {"facts", "lock"}
    assert known.outputs({}, ["a"], lambda: values) is values
    assert len(list(path.parent.iterdir())) == 3


def test_a_file_system_without_locks_keeps_nothing_and_says_so(prepared, monkeypatch, caplog):
    def flock(descriptor, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    values = np.ones((1, 1), np.float32)
    assert RealPictures(prepared).outputs({}, ["a"], lambda: values) is values
    assert "not kept for the next evaluation: the file system of" in caplog.text
