"""``include:``: one file laid over another."""

from pathlib import Path

import pytest

from arra_med import config
from arra_med.errors import RequestError
from arra_med.settings import Settings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_laid_over_the_one_it_includes(tmp_path: Path) -> None:
    write(tmp_path / "shared/c.yaml", "paths: {output: o, prepared: p}\nseed: 3\n")
    write(
        tmp_path / "b.yaml",
        "include: shared/c.yaml\nbackbone: {pretrained: /m, dropout: 0.1}\nseed: 4\n"
        "alignment: {enabled: false}\n",
    )
    path = write(tmp_path / "runs/a.yaml", "include: ../b.yaml\nbackbone: {lora: {rank: 2}}\n")
    read = config.load(Settings, path, ["paths.output=other"])
    assert (read.seed, read.paths.output, read.paths.prepared) == (4, Path("other"), Path("p"))
    assert read.backbone is not None
    assert (read.backbone.pretrained, read.backbone.dropout) == (Path("/m"), 0.1)
    assert read.backbone.lora is not None
    assert config.load(Settings, write(tmp_path / "d.yaml", config.dump(read))) == read


def test_lists_are_replaced_and_so_is_a_plug_in_of_another_name(tmp_path: Path) -> None:
    write(
        tmp_path / "b.yaml",
        "paths: {output: o}\ntraining: {betas: [0.1, 0.2]}\n"
        "features: {aggregation: mean, teacher: {name: linear, dimension: 4, weights: w}}\n",
    )
    path = write(
        tmp_path / "a.yaml",
        "include: b.yaml\ntraining: {betas: [0.3, 0.4]}\nfeatures: {teacher: {name: biomedclip}}\n",
    )
    read = config.load(Settings, path)
    assert read.training is not None
    assert read.training.betas == (0.3, 0.4)
    assert read.features is not None
    assert (read.features.aggregation, read.features.teacher.name) == ("mean", "biomedclip")
    assert read.features.teacher.options.weights is None
    write(path, "include: b.yaml\nfeatures: {teacher: {name: linear, dimension: 8}}\n")
    features = config.load(Settings, path).features
    assert features is not None
    assert (features.teacher.options.dimension, features.teacher.options.weights) == (8, Path("w"))


def test_an_include_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "include: b.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"b\.yaml, which .*a\.yaml includes"):
        config.load(Settings, path)
    write(tmp_path / "b.yaml", "include: a.yaml\n")
    with pytest.raises(RequestError, match="includes this file itself"):
        config.load(Settings, path)
    write(path, "include: [b.yaml]\n")
    with pytest.raises(RequestError, match="expected one file's path"):
        config.load(Settings, path)
