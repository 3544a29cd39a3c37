"""The study's steps: every command reads, every arm is what its name says."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from arms import ARMS, read_arms
from plan import RECIPE, UNLABELLED, Plan, Run
from steps import Step

from arra_med import config
from arra_med.errors import RequestError
from arra_med.settings import Settings

TRIAL = ARMS.with_name("trial.yaml")
ARM_NAMES = set(read_arms().arms)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / "study", read_arms())


def settings(step: Step) -> Settings:
    """What the command of a step reads."""
    words = list(step.command)
    start = words.index(str(RECIPE)) + 1
    return config.load(Settings, RECIPE, [word for word in words[start:] if "=" in word])


def every_run(plan: Plan) -> list[Run]:
    groups = [run for group in plan.arms.groups for run in plan.runs(group, [0, 1, 2])]
    return groups + plan.candidates()


def test_needs_are_steps_and_names_are_unique(plan: Plan) -> None:
    steps = plan.setup() + [step for run in every_run(plan) for step in plan.steps(run)]
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert {need for step in steps for need in step.needs} <= set(names)


@pytest.mark.parametrize("arms", [ARMS, TRIAL], ids=lambda path: path.stem)
def test_every_command_is_a_valid_configuration(tmp_path: Path, arms: Path) -> None:
    plan = Plan(tmp_path, read_arms(arms))
    runs = [run for run in every_run(plan) if run.seed in (0, 100)]
    steps = plan.setup() + [step for run in runs for step in plan.steps(run)]
    read: set[tuple[str, ...]] = set()
    for step in steps:
        if str(RECIPE) in step.command and "arra_med" in step.command:
            sections = tuple(word for word in step.command if not word.startswith("paths."))
            if sections not in read:  # reading takes a while, and paths alone change nothing
                read.add(sections)
                settings(step)


def test_the_rehearsal_has_every_group_and_reads_runs_as_they_were_trained(tmp_path: Path) -> None:
    trial = Plan(tmp_path, read_arms(TRIAL))
    runs = {group: trial.runs(group) for group in trial.arms.groups}
    assert set(runs) == set(read_arms().groups)
    assert {(run.points, run.seed) for group in runs.values() for run in group} == {((2, 4), 0)}
    steps = list(trial.steps(runs["main"][0]))
    training = settings(steps[0]).training
    assert training is not None
    assert training.batch_size == 8
    for step in steps:
        if "-export-" in step.name or step.name.endswith("-diagnose"):
            assert settings(step).training == training


def test_every_arm_is_in_a_group_and_in_the_main_size(plan: Plan) -> None:
    run = {(run.size, run.arm) for run in every_run(plan) if not run.candidate}
    assert {arm for size, arm in run if size == "small"} == ARM_NAMES
    assert {arm for size, arm in run if size == "large"} == {"none", "hybnext"}


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("none", {"enabled": False}),
        ("hybnext", {"enabled": True, "span": "hybnext", "layer": 1, "objective": "cosine"}),
        ("rep", {"span": "rep"}),
        ("layer-middle", {"layer": 4}),
        ("layer-late", {"layer": 7}),
        ("lambda-0.1", {"weight": 0.1}),
        ("lambda-0.5", {"weight": 0.5}),
        ("lambda-2", {"weight": 2.0}),
        ("mse", {"objective": "mse"}),
    ],
)
def test_arms_differ_in_what_their_names_say(
    plan: Plan, arm: str, expected: dict[str, Any]
) -> None:
    own, main = (settings(train_step(plan, name)) for name in (arm, "hybnext"))
    defaults = {"enabled": True, "span": "hybnext", "layer": 1, "objective": "cosine", "weight": 1}
    for name, value in (defaults | expected).items():
        assert getattr(own.alignment, name) == value
    assert own.training == main.training
    assert own.backbone == main.backbone
    assert own.features == main.features
    assert own.seed == main.seed == 0


def test_arms_of_features_and_start(plan: Plan) -> None:
    mean = settings(train_step(plan, "mean")).features
    vision = settings(train_step(plan, "vision-only")).features
    main = settings(train_step(plan, "hybnext")).features
    assert mean is not None
    assert vision is not None
    assert main is not None
    assert (mean.aggregation, main.aggregation, vision.aggregation) == ("mean", "cls", "cls")
    assert mean.teacher == main.teacher
    assert vision.teacher.options.weights == Path(f"{plan.prepared}-teacher-vision-only")
    supervised = settings(train_step(plan, "supervised")).features
    assert supervised is not None
    assert supervised.teacher.options.weights == Path(f"{plan.prepared}-teacher-supervised")
    for arm in ("text-first-none", "text-first-hybnext"):
        backbone = settings(train_step(plan, arm)).backbone
        assert backbone is not None
        assert backbone.llama is None
        assert backbone.pretrained == Path(f"{plan.prepared}-text-first")


def run_of(plan: Plan, arm: str) -> Run:
    return next(
        run for run in every_run(plan) if (run.size, run.arm, run.seed) == ("small", arm, 0)
    )


def train_step(plan: Plan, arm: str) -> Step:
    steps = plan.steps(run_of(plan, arm))
    return next(step for step in steps if step.name.endswith("-train"))


def test_training_needs_what_its_arm_reads_and_no_more(plan: Plan) -> None:
    needs = {arm: set(train_step(plan, arm).needs) for arm in ARM_NAMES}
    assert needs["none"] == {"tokenize"}
    assert needs["hybnext"] == needs["rep"] == {"tokenize", "features-cross-modal-cls"}
    assert needs["mean"] == {"tokenize", "features-cross-modal-mean"}
    assert needs["vision-only"] == {"tokenize", "features-vision-only-cls"}
    assert needs["text-first-none"] == {"tokenize", "text-first"}
    assert needs["text-first-hybnext"] == {"tokenize", "text-first", "features-cross-modal-cls"}
    names = {step.name for step in plan.select(["main"], [0]).steps}
    assert {"ingest", "tokenizer", "reference", "ingest-judge", "teacher-cross-modal"} <= names
    assert not {"teacher-vision-only", "features-cross-modal-mean", "text-first"} & names


def test_what_is_asked_for_is_selected(plan: Plan) -> None:
    asked = plan.select(["choose", "features-cross-modal-cls"], [0, 1, 2])
    names = {step.name for step in asked.steps}
    assert {"features-cross-modal-cls", "teacher-cross-modal", "reference"} <= names
    assert asked.runs == []
    assert [run.split for run in asked.candidates] == ["validate"] * len(asked.candidates)
    assert {step.name for step in plan.select(["setup"], []).steps} == {
        step.name for step in plan.setup()
    }
    assert [len(plan.runs(group)) for group in ("main", "large")] == [10, 6]
    both = plan.select(["main", "large"], [0, 1])
    assert len(both.runs) == 8
    assert len({step.name for step in both.steps}) == len(both.steps)


def test_only_candidates_see_validation_and_only_the_study_sees_test(plan: Plan) -> None:
    for run in every_run(plan):
        drawn = {
            settings(step).generation.split
            for step in plan.steps(run)
            if step.name.endswith("-generate") and run.seed in (0, 100)
        }
        if drawn:
            assert drawn == ({"validate"} if run.candidate else {"test"})
    assert {run.arm.partition("-")[0] for run in plan.candidates()} == {"none", "hybnext"}
    assert not {run.seed for run in plan.candidates()} & {0, 1, 2}


def test_points_are_checkpoints_of_the_recipe(plan: Plan) -> None:
    training = settings(train_step(plan, "none")).training
    assert training is not None
    run = plan.runs("main", [0])[0]
    assert run.points[-1] == training.max_steps
    assert all(point % training.checkpoint_every == 0 for point in run.points)
    assert all(point % training.validate_every == 0 for point in run.points)
    assert training.keep_checkpoints * training.checkpoint_every >= training.max_steps


def test_judge_and_extractor_never_see_the_studys_pictures(plan: Plan) -> None:
    read = settings(train_step(plan, "none"))
    assert read.evaluation is not None
    first, second = read.evaluation.extractors
    plugins = [*read.evaluation.judges, first, *read.evaluation.image_text]
    assert {plugin.options.fit_on for plugin in plugins} == {Path(f"{plan.prepared}-judge")}
    trained = next(step for step in plan.setup() if step.name == UNLABELLED).command
    assert trained[trained.index("--prepared") + 1] == f"{plan.prepared}-judge"
    assert str(second.options.teacher.options.weights) == trained[trained.index("--output") + 1]
    seeds = {
        name: settings(step).ingest.dataset.options.seed  # type: ignore[union-attr]
        for step in plan.setup()
        for name in [step.name]
        if name.startswith("ingest")
    }
    assert len(set(seeds.values())) == len(seeds) == 3


def test_an_unknown_word_is_named(plan: Plan) -> None:
    with pytest.raises(RequestError, match=r"nothing is called mian: .* the groups main, large"):
        plan.select(["mian", "setup"], [0])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("points: [400, 800", "points: [, 800", "YAML"),
        ("seeds: [0, 1, 2] ", "", "seeds: missing"),
        ("seeds: [0, 1, 2] ", "seeds: 3 ", "seeds: expected a list"),
        ("seeds: [0, 1, 2] ", "seeds: [-1] ", "seeds must be different numbers from 0 on"),
        ("hybnext], seeds: [0, 1, 2, 3, 4]", "hybnext], seeds: []",
         "groups.main.seeds must be different numbers"),
        ("points: [400, 800, 1600]", "points: []", "points must be ascending"),
        ("points: [400, 800, 1600]", "points: 200", "points: expected a list"),
        ("points: [800, 1600, 3200]", "points: [800, 400]", r"groups.longer.points must be asc"),
        ("arms: [none, hybnext], seeds:", "arms: [nonee], seeds:",
         "groups.main names nonee; known: none, hybnext"),
        ("main: {sizes: [small], ", "main: {", "groups.main.sizes: missing"),
        ("  mse: [alignment.objective=mse]", "  mse:", "groups.loss names mse; known: none"),
        ("  size: small", "  size: tiny", "choose names tiny; known: small, large, longer"),
        ("  guidance: [2.0, 3.0, 5.0]", "", "choose.guidance: missing"),
    ],
)  # fmt: skip
def test_what_is_no_arms_file_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "arms.yaml"
    assert ARMS.read_text().count(old) == 1
    path.write_text(ARMS.read_text().replace(old, new))
    with pytest.raises(RequestError, match=said):
        read_arms(path)


def test_an_arms_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no.yaml"):
        read_arms(tmp_path / "no.yaml")


def test_a_teacher_that_the_study_has_not_is_named(plan: Plan) -> None:
    other = dataclasses.replace(
        run_of(plan, "hybnext"), overrides=("features.teacher.weights=/data/teacher-mine",)
    )
    with pytest.raises(RequestError, match=r"names no teacher of the study"):
        list(plan.steps(other))
