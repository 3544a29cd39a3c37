"""``export`` knows from the run's folder how the run was trained."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from arra_med.cli.main import main
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


def test_a_run_folder_may_have_moved(
    export: Callable[..., Path], trained: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    shutil.rmtree(moved / "run/export")
    assert same(export(output=moved), trained / "run/export")
    recipe = tmp_path / "here.yaml"
    recipe.write_text(f"paths: {{output: {moved}}}\n")
    assert main(["export", str(recipe), "-q"]) == 0
    assert same(moved / "run/export", trained / "run/export")


def test_a_setting_that_the_run_was_not_trained_with_is_refused(
    pipeline: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = words(pipeline, trained)
    assert main(["export", *recipe, "alignment.span=hybnext", "training.max_steps=4"]) == 2
    assert "alignment.span ('rep' there, 'hybnext' asked for)" in caplog.text
    assert "training.max_steps (2 there, 4 asked for)" in caplog.text
    assert "leave out what says otherwise" in caplog.text
    assert "delete" not in caplog.text


def test_where_nothing_was_trained_there_is_nothing_to_export(
    pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["export", *words(pipeline, tmp_path)]) == 2
    assert f"no run at {tmp_path / 'run'}" in caplog.text
