"""Feature extraction: workers, shards and processes change no byte; several layers; the loader."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arra_med.cli.main import main
from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.picture_loader import load_pictures, to_picture
from arra_med.registry import TEACHERS
from arra_med.settings import Features
from arra_med.store import MANIFEST, PreparedFolder, Shard
from arra_med.teachers.base import Teacher, TeacherInfo
from arra_med.teachers.cache import open_features
from arra_med.teachers.extract import extract_features
from arra_med.teachers.linear import LinearOptions
from arra_med.teachers.preprocess import SquashAndScale
from tests.pipeline import arra_med

CPU = torch.device("cpu")


def linear(weights: Path, **settings: Any) -> Features:
    options = LinearOptions(weights=weights, dimension=8, patch=16, epochs=2)
    return Features(teacher=PluginConfig(name="linear", options=options), **settings)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def copies(
    tmp_path: Path, make_prepared: Callable[..., PreparedFolder]
) -> Callable[[str], PreparedFolder]:
    """The same prepared folder as often as it is asked for, in seven parts."""
    made = make_prepared(tmp_path / "original", part_size=6)

    def copy(name: str) -> PreparedFolder:
        shutil.copytree(made.folder, tmp_path / name)
        return PreparedFolder(tmp_path / name)

    return copy


def test_workers_and_shards_change_no_byte(
    tmp_path: Path, copies: Callable[[str], PreparedFolder]
) -> None:
    weights = tmp_path / "teacher"
    alone = tree(extract_features(linear(weights), copies("alone"), CPU))
    workers = linear(weights, workers=2, batch_size=4)
    assert tree(extract_features(workers, copies("workers"), CPU)) == alone
    shared = copies("shards")
    for index in (2, 0):  # shard 1 never ran: the joining run does its parts
        folder = extract_features(linear(weights), shared, CPU, shard=Shard(index, 3))
        assert not (folder / MANIFEST).exists()
    assert tree(extract_features(linear(weights), shared, CPU)) == alone


def test_a_shard_cannot_fit_a_teacher(tmp_path: Path, prepared: PreparedFolder) -> None:
    with pytest.raises(RequestError, match="run 'features' once without --shard"):
        extract_features(linear(tmp_path / "teacher"), prepared, CPU, shard=Shard(0, 2))


@pytest.mark.slow
def test_two_processes_of_torchrun_change_no_byte(
    tmp_path: Path, copies: Callable[[str], PreparedFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    trees = []
    for processes in (1, 2):
        prepared = copies(f"processes{processes}")
        config = tmp_path / "features.yaml"
        config.write_text(
            f"paths: {{output: {tmp_path}, prepared: {prepared.folder}}}\ndevice: cpu\n"
            f"features: {{teacher: {{name: linear, weights: {tmp_path}/teacher{processes}, "
            "dimension: 8, patch: 16, epochs: 2}}\n"
        )
        if processes == 1:
            assert main(["features", str(config)]) == 0
            printed = capsys.readouterr().out
        else:
            printed = arra_med("features", config, processes=processes).stdout
        trees.append(tree(Path(printed.split()[-1])))
    assert trees[0] == trees[1]
    assert MANIFEST in trees[0]


@dataclass(frozen=True, kw_only=True)
class Options:
    blocks: int = 3


class Layered(Teacher):
    """Each block doubles the mean brightness and its square."""

    Options = Options

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.info = self.describe(options)
        self.transform = SquashAndScale(8)

    @classmethod
    def describe(cls, options: Options) -> TeacherInfo:
        return TeacherInfo(
            dimension=2, input_size=8, aggregations=("cls", "mean"), trained_on="nothing",
            num_layers=options.blocks, layer_dimension=2,
        )  # fmt: skip

    @classmethod
    def identity(cls, options: Options) -> dict[str, Any]:
        return {"name": "layered", "weights_sha256": "0", "preprocessing": "squash"}

    def forward(self, pixels: Tensor, layers: tuple[int, ...] | None = None) -> dict[str, Tensor]:
        value = pixels.mean(dim=(1, 2, 3))[:, None]
        output = torch.cat([value, value**2], dim=1)
        if layers is None:
            return {"cls": output, "mean": -output}
        blocks = torch.cat([output * 2**number for number in layers], dim=1)
        return {"cls": blocks, "mean": -blocks}


@pytest.fixture
def layered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Features]:
    monkeypatch.setitem(TEACHERS._targets, "layered", f"{__name__}:Layered")
    return lambda **settings: Features(
        teacher=PluginConfig(name="layered", options=Options()), **settings
    )


def test_several_layers_stand_in_the_order_asked_for(
    prepared: PreparedFolder, layered: Callable[..., Features]
) -> None:
    final = layered()
    several = layered(layers=(3, 1), aggregation="cls+mean")
    for settings in (final, several):
        extract_features(settings, prepared, CPU)
    one, more = open_features(final, prepared), open_features(several, prepared)
    assert (one.width, more.width) == (2, 8)
    for key in prepared.keys[:5]:
        output = one[key]
        expected = np.concatenate([8 * output, 2 * output, -8 * output, -2 * output])
        assert np.array_equal(more[key], expected)


@pytest.mark.parametrize("layers", [(4,), (1, 9)])
def test_layers_that_are_not_there_are_refused(
    prepared: PreparedFolder, layered: Callable[..., Features], layers: tuple[int, ...]
) -> None:
    with pytest.raises(RequestError, match="from 1 to 3"):
        extract_features(layered(layers=layers), prepared, CPU)


def test_other_layers_or_precision_are_another_cache(
    prepared: PreparedFolder, layered: Callable[..., Features]
) -> None:
    extract_features(layered(layers=(1,)), prepared, CPU)
    with pytest.raises(FileNotFoundError, match=r"layers \(\[1\] there, \[2\] asked for\)"):
        open_features(layered(layers=(2,)), prepared)
    with pytest.raises(FileNotFoundError, match="precision"):
        open_features(layered(layers=(1,), precision="bf16"), prepared)


@pytest.mark.parametrize("layers", [(), (0,), (2, 2)])
def test_layers_are_different_numbers_from_one(
    layered: Callable[..., Features], layers: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="different numbers"):
        layered(layers=layers)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_every_picture_once_in_order(
    copies: Callable[[str], PreparedFolder], workers: int
) -> None:
    prepared = copies("loader")
    transform = SquashAndScale(16)
    batches = list(load_pictures(prepared, [1, 0, 4], transform, batch_size=4, workers=workers))
    assert [(batch.part, len(batch.keys)) for batch in batches] == [
        (1, 4), (1, 2), (0, 4), (0, 2), (4, 4), (4, 2),
    ]  # fmt: skip
    expected = [pair for part in (1, 0, 4) for pair in prepared.read_part(part)]
    assert [key for batch in batches for key in batch.keys] == [key for key, _ in expected]
    pixels = torch.cat([batch.pixels for batch in batches])
    for picture, (_, png) in zip(pixels, expected, strict=True):
        assert torch.equal(picture, transform(to_picture(png)))


def test_batches_hold_no_more_pixels_than_workers_may(
    copies: Callable[[str], PreparedFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arra_med.picture_loader._BATCH_BYTES", 3 * 3 * 16 * 16 * 4)
    batches = load_pictures(copies("loader"), [0], SquashAndScale(16), batch_size=64)
    assert [len(batch.keys) for batch in batches] == [3, 3]
