"""``export`` knows from the run's folder how the run was trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from arra_med.cli.main import main
from arra_med.errors import RequestError
from arra_med.store import fingerprint
from arra_med.training.export import already_exported
from arra_med.training.record import without_length
from tests.training.ranks import run, weights

TRAINED_WITH = (
    "alignment.span=rep", "training.max_steps=2", "training.zero_stage=0", "backbone.dropout=0.1",
    "training.checkpoint_every=1", "training.preview_samples=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(pipeline: Path) -> Path:
    """The ``paths.output`` of a run that differs from its recipe."""
    output = pipeline / "ablation"
    run(pipeline / "ablation.log", "train", *words(pipeline, output), *TRAINED_WITH)
    return output


def words(pipeline: Path, output: Path) -> list[str]:
    places = [f"paths.{name}={pipeline / name}" for name in ("prepared", "tokenizer")]
    places += [f"features.teacher.weights={pipeline / 'teacher'}"]
    return [str(pipeline / "config.yaml"), f"paths.output={output}", *places]


@pytest.fixture
def export(
    pipeline: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Path]:
    """Export the run's end to a new folder, with these words behind the recipe."""

    def call(*more: str, recipe: Path = pipeline / "config.yaml", output: Path = trained) -> Path:
        places = [f"paths.output={output}", f"paths.export={tmp_path / 'new'}"]
        assert main(["export", str(recipe), *places, *more, "-q"]) == 0
        return Path(capsys.readouterr().out.splitlines()[-1])

    return call


def same(one: Path, two: Path) -> bool:
    return weights(one) == weights(two) and all(
        (one / name).read_bytes() == (two / name).read_bytes()
        for name in ("arra.json", "manifest.json", "image_tokenizer/model.safetensors")
    )


def test_an_ablation_is_exported_without_repeating_what_it_was_trained_with(
    export: Callable[..., Path], trained: Path
) -> None:
    assert same(export(), trained / "run/export")


def test_settings_that_agree_with_the_run_may_stand(
    export: Callable[..., Path], trained: Path
) -> None:
    assert same(export(*TRAINED_WITH), trained / "run/export")


def test_the_recipe_may_have_changed_since(
    export: Callable[..., Path], trained: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "later.yaml"
    recipe.write_text(
        "paths: {output: elsewhere}\nseed: 5\ntraining: {batch_size: 6}\n"
        "alignment: {enabled: false}\n"
    )
    assert same(export(recipe=recipe), trained / "run/export")


def test_a_recipe_may_say_no_more_than_where(
    pipeline: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "where.yaml"
    place = tmp_path / "mine"
    recipe.write_text(f"paths: {{output: elsewhere, run: {trained / 'run'}, export: {place}}}\n")
    assert main(["export", str(recipe), "-q"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(place)
    assert same(place, trained / "run/export")


def test_a_run_says_where_its_defaults_are(whole: Path, tmp_path: Path) -> None:
    """Also if the recipe's own ``paths.output`` has none of them."""
    recipe = tmp_path / "other.yaml"
    recipe.write_text("paths: {output: elsewhere}\n")
    places = [f"paths.run={whole / 'run'}", f"paths.export={tmp_path / 'new'}"]
    assert main(["export", str(recipe), *places, "-q"]) == 0
    assert same(tmp_path / "new", whole / "run/export")


@pytest.fixture
def whole(pipeline: Path, tmp_path: Path) -> Path:
    """The ``paths.output`` of a run that has all that it was made from in it."""
    output = tmp_path / "before"
    for name in ("prepared", "tokenizer", "teacher"):
        shutil.copytree(pipeline / name, output / name)
    recipe = str(pipeline / "config.yaml")
    run(pipeline / "whole.log", "train", recipe, f"paths.output={output}", *TRAINED_WITH)
    return output


def test_a_run_may_have_moved_with_all_it_was_made_from(
    whole: Path, pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = whole.rename(tmp_path / "after")
    ended = (moved / "run/export").rename(tmp_path / "ended")
    recipe = tmp_path / "here.yaml"
    recipe.write_text(f"paths: {{output: {moved}}}\n")
    assert main(["export", str(recipe), "-q"]) == 0
    assert same(moved / "run/export", ended)
    train = ["train", str(pipeline / "config.yaml"), f"paths.output={moved}", *TRAINED_WITH]
    assert main(train) == 0
    assert f"{moved / 'run/export'} is already done" in caplog.text
    another = shutil.copytree(moved / "teacher", tmp_path / "teacher")
    assert main([*train, f"features.teacher.weights={another}"]) == 2, "not in what was moved"
    longer = [*train, "training.max_steps=3"]
    run(pipeline / "whole.log", *longer)
    moved = moved.rename(tmp_path / "again")
    recipe.write_text(f"paths: {{output: {moved}, export: {tmp_path / 'three'}}}\n")
    assert main(["export", str(recipe), "-q"]) == 0
    assert same(tmp_path / "three", moved / "run/export")


def test_a_run_may_have_moved_from_what_it_was_made_from(
    export: Callable[..., Path], trained: Path, tmp_path: Path
) -> None:
    moved = trained.rename(tmp_path / "moved")
    try:
        made = export(output=moved)
    finally:
        moved.rename(trained)
    assert same(made, trained / "run/export")


def test_a_setting_that_the_run_was_not_trained_with_is_refused(
    pipeline: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = words(pipeline, trained)
    assert main(["export", *recipe, "alignment.span=hybnext", "training.max_steps=4"]) == 2
    assert "alignment.span ('rep' there, 'hybnext' asked for)" in caplog.text
    assert "training.max_steps (2 there, 4 asked for)" in caplog.text
    assert "leave out what says otherwise" in caplog.text
    assert "delete" not in caplog.text


def test_an_export_of_the_same_step_may_be_of_a_shorter_run_unless_its_rates_differ(
    trained: Path, tmp_path: Path
) -> None:
    export = shutil.copytree(trained / "run/export", tmp_path / "export")
    run = json.loads((trained / "run/run.json").read_text())
    longer = run | {"training": run["training"] | {"epochs": 5.0, "max_steps": 9}}
    assert already_exported(export, longer, 2)
    for identity, step in [(longer, None), (longer, 3), (longer | {"seed": 1}, 2)]:
        with pytest.raises(RequestError, match="delete it"):
            already_exported(export, identity, step)
    cosine = longer | {"training": longer["training"] | {"schedule": "cosine"}}
    arra = json.loads((export / "arra.json").read_text())
    arra["trained_on"]["run_of_any_length"] = fingerprint(without_length(cosine))
    (export / "arra.json").write_text(json.dumps(arra))
    with pytest.raises(RequestError, match="an export of another run"):
        already_exported(export, cosine, 2)


def test_where_nothing_was_trained_there_is_nothing_to_export(
    pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["export", *words(pipeline, tmp_path)]) == 2
    assert f"no run at {tmp_path / 'run'}" in caplog.text
