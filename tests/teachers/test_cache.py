"""The feature cache: the teacher's own vectors, byte for byte the same however it is made."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from arra_med.config import PluginConfig
from arra_med.errors import RequestError, WorkError
from arra_med.images import decode_png
from arra_med.registry import TEACHERS
from arra_med.settings import Features
from arra_med.store import PreparedFolder, read_manifest
from arra_med.teachers.base import Teacher, TeacherInfo
from arra_med.teachers.cache import open_features, teacher_model
from arra_med.teachers.extract import extract_features
from arra_med.teachers.linear import LinearOptions
from arra_med.teachers.preprocess import SquashAndScale

CPU = torch.device("cpu")


def linear(weights: Path, **settings: Any) -> Features:
    options = LinearOptions(weights=weights, dimension=8, patch=16, epochs=2)
    return Features(teacher=PluginConfig(name="linear", options=options), **settings)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def part(folder: Path, index: int = 0) -> Path:
    return folder / f"part-{index:05d}.arrow"


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    with pa.ipc.open_file(path.read_bytes()) as file:
        table = change(file.read_all())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)


@pytest.mark.parametrize(("aggregation", "width"), [("cls", 8), ("mean", 8), ("cls+mean", 16)])
def test_holds_the_teachers_vectors(
    tmp_path: Path, prepared: PreparedFolder, aggregation: Any, width: int
) -> None:
    settings = linear(tmp_path / "teacher", aggregation=aggregation)
    folder = extract_features(settings, prepared, CPU)
    assert folder.parent == prepared.folder / "features"
    assert folder.name.startswith(f"linear-{aggregation}-")
    cache = open_features(settings, prepared)
    assert len(cache) == 40
    assert cache.width == width
    teacher = teacher_model(settings)
    for key, png in prepared.iter_images():
        image = torch.from_numpy(decode_png(png).copy()).permute(2, 0, 1)[None]
        vectors = teacher(teacher.preprocess(image))
        expected = torch.cat([vectors[name] for name in aggregation.split("+")], dim=1)
        assert np.array_equal(cache[key], expected[0].numpy())


def test_batch_size_does_not_change_a_byte(tmp_path: Path, prepared: PreparedFolder) -> None:
    trees = []
    for batch_size in (1, 7, 64):
        copy = tmp_path / f"copy{batch_size}"
        shutil.copytree(prepared.folder, copy)
        settings = linear(tmp_path / "teacher", batch_size=batch_size)
        trees.append(tree(extract_features(settings, PreparedFolder(copy), CPU)))
    assert trees[0] == trees[1] == trees[2]
    assert sorted(trees[0]) == ["manifest.json", "part-00000.arrow", "part-00001.arrow"]


def test_float16(tmp_path: Path, prepared: PreparedFolder) -> None:
    single, half = (linear(tmp_path / "teacher", dtype=d) for d in ("float32", "float16"))
    folders = {extract_features(settings, prepared, CPU) for settings in (single, half)}
    assert len(folders) == 2
    exact, rounded = open_features(single, prepared), open_features(half, prepared)
    assert rounded["p0/x"].dtype == np.float16
    assert np.array_equal(rounded["p0/x"], exact["p0/x"].astype(np.float16))


def test_a_finished_cache_is_left_as_it_is(
    tmp_path: Path, prepared: PreparedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = linear(tmp_path / "teacher")
    folder = extract_features(settings, prepared, CPU)
    before = tree(folder)

    def refuse(*args: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("arra_med.teachers.linear.LinearTeacher.__init__", refuse)
    assert extract_features(settings, prepared, CPU) == folder
    assert len(open_features(settings, prepared)) == 40
    assert tree(folder) == before


DRIVER = """
import os, random, signal, sys
from pathlib import Path
import torch
from arra_med import store
from arra_med.config import PluginConfig
from arra_med.settings import Features
from arra_med.teachers import extract as extraction, linear

def extract(name):
    root = Path(sys.argv[1])
    weights = root / f"{name}-teacher"
    options = linear.LinearOptions(weights=weights, dimension=8, patch=16, epochs=2)
    settings = Features(teacher=PluginConfig(name="linear", options=options))
    extraction.extract_features(settings, store.PreparedFolder(root / name), torch.device("cpu"))

def child(steps):  # killed after so many steps, never after 0; counted, so that load is no matter
    pid = os.fork()
    if pid:
        return pid
    replace, left = Path.replace, iter(range(steps - 1, -1, -1))
    def step():
        if next(left, None) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def counted(self, target):
        step()
        replace(self, target)
        step()
    Path.replace = counted
    try:
        extract("killed")
    finally:
        os._exit(sys.exc_info()[0] is not None)

torch.set_num_threads(1)
extract("whole")
chance, states = random.Random(0), []
while True:
    _, status = os.waitpid(child(chance.randint(1, 10)), 0)
    if status == signal.SIGKILL:
        names = [p.name for p in Path(sys.argv[1]).glob("killed*/**/*") if p.suffix != ".parquet"]
        states.append(" ".join(sorted(names)))
    else:
        assert status == 0, status
        break
assert os.waitpid(child(0), 0)[1] == 0
print(len(states), len(set(states)), sum("part-" in s for s in states))
"""


@pytest.mark.slow
def test_sigkill_then_again_gives_the_same_bytes(
    tmp_path: Path, make_prepared: Callable[..., PreparedFolder]
) -> None:
    make_prepared(tmp_path / "whole", part_size=4)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    result = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    kills, different, between_parts = map(int, result.stdout.split())
    assert kills >= 4
    assert different >= 3
    assert between_parts >= 2
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert tree(tmp_path / "killed-teacher") == tree(tmp_path / "whole-teacher")


def test_deleted_row(tmp_path: Path, prepared: PreparedFolder) -> None:
    settings = linear(tmp_path / "teacher")
    folder = extract_features(settings, prepared, CPU)
    rewrite(part(folder), lambda table: pa.concat_tables([table[:5], table[6:]]))
    with pytest.raises(RequestError, match=r"no features for 1 samples, first \['p5/x'\]"):
        open_features(settings, prepared)


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "are not finite"), (None, "constant")], ids=["nan", "constant"]
)
def test_spoilt_vector(
    tmp_path: Path, prepared: PreparedFolder, value: float | None, words: str
) -> None:
    settings = linear(tmp_path / "teacher")
    folder = extract_features(settings, prepared, CPU)

    def spoil(table: pa.Table) -> pa.Table:
        column = table["vector"].combine_chunks()
        vectors = column.flatten().to_numpy().reshape(-1, 8).copy()
        vectors[7, 3 if value is not None else slice(None)] = 0.5 if value is None else value
        array = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
        return table.set_column(1, "vector", array)

    rewrite(part(folder, 1), spoil)
    with pytest.raises(RequestError, match=rf"1 pictures are .*{words}.*p27/x|{words}.*p27/x"):
        open_features(settings, prepared)


def test_key_twice(tmp_path: Path, prepared: PreparedFolder) -> None:
    settings = linear(tmp_path / "teacher")
    folder = extract_features(settings, prepared, CPU)
    rewrite(part(folder), lambda table: pa.concat_tables([table, table[3:4]]))
    with pytest.raises(RequestError, match="'p3/x' is there twice"):
        open_features(settings, prepared)


def test_other_weights(tmp_path: Path, prepared: PreparedFolder) -> None:
    settings = linear(tmp_path / "teacher")
    extract_features(settings, prepared, CPU)
    path = tmp_path / "teacher" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileNotFoundError, match=r"differs in weights: .*arra-med features"):
        open_features(settings, prepared)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"aggregation": "mean"}, "aggregation"), ({"dtype": "float16"}, "dtype")],
)
def test_other_settings(
    tmp_path: Path, prepared: PreparedFolder, change: dict[str, Any], words: str
) -> None:
    settings = linear(tmp_path / "teacher")
    with pytest.raises(FileNotFoundError, match="has not been fitted"):
        open_features(settings, prepared)
    extract_features(settings, prepared, CPU)
    with pytest.raises(FileNotFoundError, match=rf"nearest cache, .* differs in {words} \("):
        open_features(replace(settings, **change), prepared)


def test_other_preprocessing(
    tmp_path: Path, prepared: PreparedFolder, medsam: tuple[Path, nn.Module]
) -> None:
    plugin = TEACHERS.get("medsam")
    one, two = (
        Features(
            teacher=PluginConfig(
                name="medsam", options=plugin.Options(weights=medsam[0], normalization=n)
            ),
            aggregation="mean",
        )
        for n in ("processor", "min-max")
    )
    with pytest.raises(FileNotFoundError, match="there are no features at all"):
        open_features(one, prepared)
    extract_features(one, prepared, CPU)
    assert open_features(one, prepared).width == 16
    with pytest.raises(FileNotFoundError, match=r"differs in preprocessing: .*normalization"):
        open_features(two, prepared)


def test_other_pictures(
    tmp_path: Path, prepared: PreparedFolder, make_prepared: Callable[..., PreparedFolder]
) -> None:
    settings = linear(tmp_path / "teacher")
    folder = extract_features(settings, prepared, CPU)
    other = make_prepared(tmp_path / "other", seed=1)
    shutil.copytree(folder, other.folder / "features" / folder.name)
    with pytest.raises(RequestError, match=r"does not fit: pictures: prepared \("):
        open_features(settings, other)
    with pytest.raises(RequestError, match="may have seen its test split: delete its weights"):
        extract_features(settings, other, CPU)


def test_unfinished(tmp_path: Path, prepared: PreparedFolder) -> None:
    settings = linear(tmp_path / "teacher")
    folder = extract_features(settings, prepared, CPU)
    (folder / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError):
        open_features(settings, prepared)


def test_aggregation_that_the_teacher_lacks(
    tmp_path: Path, prepared: PreparedFolder, medsam: tuple[Path, nn.Module]
) -> None:
    options = TEACHERS.get("medsam").Options(weights=medsam[0])
    settings = Features(teacher=PluginConfig(name="medsam", options=options), aggregation="cls")
    with pytest.raises(RequestError, match=r"aggregation is 'cls', but .* offers 'mean'"):
        extract_features(settings, prepared, CPU)
    assert not (prepared.folder / "features").exists()


class FaultyTeacher(Teacher):
    """Gives the vector its options name."""

    @dataclass(frozen=True, kw_only=True)
    class Options:
        fault: str

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.fault = options.fault
        self.info = self.describe(options)
        self.transform = SquashAndScale(4)

    @classmethod
    def describe(cls, options: Options) -> TeacherInfo:
        return TeacherInfo(dimension=2, input_size=4, aggregations=("cls",), trained_on="nothing")

    @classmethod
    def identity(cls, options: Options) -> dict[str, Any]:
        return {"name": "faulty", "fault": options.fault}

    def forward(self, pixels: Tensor) -> Mapping[str, Tensor]:
        mean = pixels.mean(dim=(1, 2, 3))
        large = mean > mean.new_tensor(-0.25)
        first = {
            "nan": torch.where(large, torch.nan, mean),
            "huge": torch.where(large, 1e6, mean),
            "zero": torch.where(large, 0.0, mean),
            "same": torch.full_like(mean, 2.0),
        }[self.fault]
        second = {"zero": torch.where(large, 0.0, 1.0)}.get(self.fault, torch.ones_like(mean))
        return {"cls": torch.stack([first, second], dim=1)}


@pytest.mark.parametrize(
    ("fault", "dtype", "words"),
    [
        ("nan", "float32", r"vectors of \d+ pictures are not finite, first p\d+/x"),
        ("huge", "float16", r"not finite \(float16 .*\), first p\d+/x"),
        ("zero", "float32", r"constant .*first p\d+/x"),
        ("same", "float32", r"all 40 pictures the same vector \(first keys: p0/x, p1/x"),
    ],
)
def test_faulty_vectors_are_refused(
    prepared: PreparedFolder, fault: str, dtype: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = TEACHERS.get
    monkeypatch.setattr(TEACHERS, "get", lambda n: FaultyTeacher if n == "faulty" else get(n))
    options = FaultyTeacher.Options(fault=fault)
    settings = Features(teacher=PluginConfig(name="faulty", options=options), dtype=dtype)
    with pytest.raises(WorkError, match=words):
        extract_features(settings, prepared, CPU)
    for folder in (prepared.folder / "features").iterdir():
        with pytest.raises(FileNotFoundError, match="not finished"):
            read_manifest(folder, "features")


def test_manifest_records_what_the_vectors_depend_on(
    tmp_path: Path, prepared: PreparedFolder
) -> None:
    folder = extract_features(linear(tmp_path / "teacher"), prepared, CPU)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"] == {"samples": 40}
    assert set(manifest["config"]) == {
        "teacher", "aggregation", "layers", "precision", "dtype", "prepared",
    }  # fmt: skip
    assert manifest["config"]["prepared"] == prepared.content_hash
    assert manifest["config"]["teacher"]["name"] == "linear"
