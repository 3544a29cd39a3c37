"""``include:``: one file laid over another."""

import re
from pathlib import Path

import pytest
import yaml

from arra_med import config
from arra_med.errors import RequestError
from arra_med.settings import Lora, Settings


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


INCLUDED = """\
paths: {output: o, prepared: p}
tokenizer:
  plugin: {name: monai-vqvae, num_codes: 32}
  training: {adversarial: {weight: 0.5}}
features: {teacher: {name: linear, weights: "{prepared}/teacher"}, layers: [1, 2]}
backbone: {pretrained: /m, lora: {rank: 2, target_modules: [q_proj]}, dropout: 0.1}
training: {max_steps: 5, deepspeed: {dump_state: true}}
generation: {diffusers: {pipeline: models/sd}, size: [64, 64]}
evaluation: {judges: [{name: cnn, weights: w}], extractors: [{name: cnn, weights: w}]}
"""


def both_ways(tmp_path: Path, key: str, *more: str) -> list[Settings]:
    """What is read with null for ``key`` in the including file, and on the command line."""
    write(tmp_path / "b.yaml", INCLUDED)
    over: object = None
    for name in reversed(key.split(".")):
        over = {name: over}
    path = write(tmp_path / "a.yaml", "include: b.yaml\n" + yaml.safe_dump(over))
    return [
        config.load(Settings, path, more),
        config.load(Settings, tmp_path / "b.yaml", [f"{key}=null", *more]),
    ]


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("paths.prepared", ()), ("tokenizer", ()), ("features", ("alignment.enabled=false",)),
        ("features.layers", ()), ("backbone", ()), ("backbone.lora", ()),
        ("backbone.lora.target_modules", ()),
        ("backbone.pretrained", ("backbone.lora=null", "backbone.llama={}")),
        ("training", ()), ("training.max_steps", ()), ("generation.diffusers", ()),
        ("generation.size", ()), ("evaluation", ()),
    ],
)  # fmt: skip
def test_null_takes_an_included_value_or_section_back(
    tmp_path: Path, key: str, more: tuple[str, ...]
) -> None:
    for read in both_ways(tmp_path, key, *more):
        value: object = read
        for name in key.split("."):
            value = getattr(value, name)
        assert value is None
        if key == "paths.prepared":
            assert read.features is not None
            assert read.features.teacher.options.weights == Path("o/prepared/teacher")


def test_after_null_a_section_begins_empty(tmp_path: Path) -> None:
    for read in both_ways(tmp_path, "backbone.lora", "backbone.lora.alpha=4"):
        assert read.backbone is not None
        assert read.backbone.lora == Lora(alpha=4)


@pytest.mark.parametrize(
    ("key", "way_out"),
    [
        ("paths", "set its keys, output, prepared"),
        ("alignment", "set its keys, enabled, span"),
        ("tokenizer.training.adversarial", "set its keys, weight"),
        ("tokenizer.plugin", "give 'name: <image tokenizer>' and its options"),
        ("features.teacher", "give 'name: <teacher>' and its options"),
        ("training.deepspeed", "{} is an empty mapping"),
        ("training.epochs", "give a value; the default is 10"),
        ("training.schedule", "give a value; the default is 'constant'"),
        ("evaluation.judges", "[] is an empty list"),
    ],
)
def test_null_where_there_must_be_something_is_refused_by_name(
    tmp_path: Path, key: str, way_out: str
) -> None:
    said = rf"(?m)^  - {re.escape(key)}: cannot be null: {re.escape(way_out)}"
    with pytest.raises(RequestError, match=said):
        both_ways(tmp_path, key)
    with pytest.raises(RequestError, match=said):
        config.load(Settings, tmp_path / "b.yaml", [f"{key}=null"])


def test_null_takes_an_entry_of_an_included_mapping_back(tmp_path: Path) -> None:
    table = "{name: table, file: t.csv, text: a, view: b, view_names: {x: PA, y: AP}}"
    write(tmp_path / "b.yaml", f"paths: {{output: o}}\ningest:\n  dataset: {table}\n")
    path = write(
        tmp_path / "a.yaml", "include: b.yaml\ningest: {dataset: {view_names: {x: null}}}\n"
    )
    ingest = config.load(Settings, path).ingest
    assert ingest is not None
    assert ingest.dataset.options.view_names == {"y": "AP"}
