"""The study's statistics, against numbers worked out by hand."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from analysis import (
    Contrast,
    catching_up,
    curve,
    difference,
    endings,
    first_reach,
    mean_curve,
    over_seeds,
    spread,
    twice,
    unpaired,
)
from records import Study, like_points, load
from scipy.stats import t as student

T_2 = 4.302652729749464
"""0.975 quantile of Student's t with 2 degrees of freedom: 4 · 0.475 · √(2 / (1 - 4 · 0.475²))."""
LESS = Contrast(label="hybnext − none", plus=(("small", "hybnext"),), minus=(("small", "none"),))


def point(step: int, measures: Mapping[str, Any], *, split: str = "test", pictures: int = 100):
    return {
        "step": step, "samples": 10 * step, "tokens": 1000 * step, "split": split,
        "pictures": pictures, "validation_cross_entropy": 4.0 - step / 100,
        "measures": {k: v if isinstance(v, dict) else {"value": v} for k, v in measures.items()},
    }  # fmt: skip


def save(folder: Path, arm: str, seed: int, points: Sequence[Any], size: str = "small") -> Path:
    path = folder / "runs" / f"{size}-{arm}-seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "arm": arm, "size": size, "seed": seed, "points": list(points), "losses": [],
        "teacher": "w", "start": None, "clipped_share": 0, "device": "a card",
        "evaluated_on": "a card", "overrides": [], "parameters": 1, "seconds": {}, "findings": {},
        "validation": [{"step": point["step"]} for point in points],
        "diagnosis": {"points": [{"step": point["step"]} for point in points]}, "versions": {},
        "made_with": {"pictures": "p", "image_tokenizer": "t", "judge": "j"},
    }  # fmt: skip
    path.write_text(json.dumps(record))
    return path


def study_of(folder: Path, finals: Mapping[str, Sequence[float]]) -> Study:
    """Seeds 0, 1, … of arms whose runs end with these FDs."""
    for arm, values in finals.items():
        for seed, value in enumerate(values):
            save(folder, arm, seed, [point(1, {"fd": value})])
    return load(folder)


def test_the_quantile_by_its_closed_form() -> None:
    p = 0.475  # F(t) - 1/2 with two degrees of freedom is t / (2 √(2 + t²))
    assert pytest.approx(2 * p * math.sqrt(2 / (1 - 4 * p * p))) == T_2


def test_mean_and_interval_over_seeds() -> None:
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.value, found.n) == (2, 3)
    assert found.high - found.value == pytest.approx(T_2 / math.sqrt(3))
    assert found.value - found.low == pytest.approx(T_2 / math.sqrt(3))


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    alone = over_seeds([5.0])
    assert (alone.value, alone.low, alone.high) == (5, None, None)
    assert over_seeds([]) is None


def test_a_spread_averages_the_runs_own_intervals_if_all_have_one(tmp_path: Path) -> None:
    with_ends = [{"value": 3, "low": 2, "high": 5}, {"value": 5, "low": 4, "high": 6}]
    for seed, kid in enumerate(with_ends):
        value = {"kid": kid, "fd": {"value": 1 + seed, "low": None, "high": None}}
        save(tmp_path, "none", seed, [point(1, value)])
    study = load(tmp_path)
    found = spread(study, ("small", "none"), "kid")
    assert (found.seeds.value, found.pictures.low, found.pictures.high) == (4, 3, 5.5)
    assert spread(study, ("small", "none"), "fd").pictures is None
    assert spread(study, ("small", "none"), "cross_entropy").by_seed == {0: 3.99, 1: 3.99}
    assert spread(study, ("small", "none"), "recall").seeds is None
    assert spread(study, ("small", "rep"), "fd").by_seed == {}


def test_a_difference_is_paired_by_seed(tmp_path: Path) -> None:
    # Apart, the arms overlap; within each seed, hybnext is lower by 1.0, 1.1 and 0.9.
    study = study_of(tmp_path, {"none": [10, 20.1, 30.9], "hybnext": [9, 19, 30]})
    found = difference(study, LESS, "fd")
    assert list(found.by_seed.values()) == pytest.approx([-1.0, -1.1, -0.9])
    assert found.seeds.value == pytest.approx(-1)
    assert found.seeds.high == pytest.approx(-1 + T_2 * 0.1 / math.sqrt(3))
    assert found.verdict == "lower (better)"


def test_verdicts_follow_the_interval_and_the_measure_s_direction(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"none": [1.0, 2.0, 3.0], "hybnext": [1.1, 1.9, 3.0], "rep": [9]})
    assert difference(study, LESS, "fd").verdict == "not told apart with 3 seeds"
    assert difference(study, LESS, "recall").verdict == "no seed in common"
    rep = Contrast(label="rep", plus=(("small", "rep"),), minus=(("small", "none"),))
    assert difference(study, rep, "fd").verdict == "no interval from 1 seed"
    mse = Contrast(label="mse", plus=(("small", "mse"),), minus=(("small", "none"),))
    assert difference(study, mse, "fd").verdict == "not yet run"


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("recall", "higher (better)"),
        ("kid", "higher (worse)"),
        ("fine_detail", "higher"),
    ],
)
def test_better_and_worse(tmp_path: Path, measure: str, expected: str) -> None:
    for seed in range(3):
        save(tmp_path, "none", seed, [point(1, {measure: 0.1 * seed})])
        save(tmp_path, "hybnext", seed, [point(1, {measure: 0.5 + 0.11 * seed})])
    assert difference(load(tmp_path), LESS, measure).verdict == expected


def test_fewer_seeds_than_planned_are_said(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"none": [5.0, 6.0], "hybnext": [2.0, 3.0, 4.0]})
    found = difference(study, LESS, "fd")
    assert found.by_seed == {0: -3, 1: -3}
    assert found.verdict == "lower (better) with 2 seeds"


def test_a_difference_of_differences_is_neither_better_nor_worse(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        {"none": [5, 6, 7], "hybnext": [4, 5, 6], "a": [5, 6, 7], "b": [2, 3.1, 4]},
    )
    gain = Contrast(
        label="gain",
        plus=(("small", "b"), ("small", "none")),
        minus=(("small", "a"), ("small", "hybnext")),
    )
    found = difference(study, gain, "fd")
    assert list(found.by_seed.values()) == pytest.approx([-2, -1.9, -2])
    assert found.verdict == "lower"


def test_a_crossing_is_interpolated_in_logarithms() -> None:
    line = ((1e6, 2e6, 4e6), (8.0, 4.0, 2.0))  # FD = 8e6 / tokens
    assert first_reach(line, 3.0).tokens == pytest.approx(8e6 / 3)
    assert first_reach(line, 2.0).tokens == pytest.approx(4e6)
    assert first_reach(line, 1.9).tokens is None
    start = first_reach(line, 9.0)
    assert (start.tokens, start.at_start) == (1e6, True)


def test_the_first_crossing_counts_when_a_curve_rises_again() -> None:
    line = ((1.0, 2.0, 4.0, 8.0), (8.0, 2.0, 6.0, 1.0))
    assert 1 < first_reach(line, 4.0).tokens < 2


def test_what_was_trained_twice_is_held_side_by_side(tmp_path: Path) -> None:
    for seed in (0, 1):
        save(tmp_path, "none", seed, [point(1, {"fd": 8.0}), point(2, {"fd": 4.0 + seed})])
    save(tmp_path, "none", 1, [point(2, {"fd": 3.0}), point(4, {"fd": 2.0})], size="longer")
    save(tmp_path, "rep", 0, [point(2, {"fd": 3.0})])
    save(tmp_path, "rep", 0, [point(3, {"fd": 3.0})], size="longer")  # nothing in common
    found = twice(load(tmp_path), "small", "longer")
    assert {arm: list(seeds) for arm, seeds in found.runs.items()} == {
        ("small", "none"): [1], ("longer", "none"): [1],
    }  # fmt: skip
    assert [spread(found, (size, "none"), "fd").by_seed for size in ("small", "longer")] == [
        {1: 5.0}, {1: 3.0},
    ]  # fmt: skip


def test_tokens_to_the_fd_of_another_arm(tmp_path: Path) -> None:
    """FD is 16 / step without alignment, 8 / step with it; one seed is 4 times as good."""
    for seed, better in enumerate((1, 1, 4)):
        for arm, top in (("none", 16), ("hybnext", 8)):
            fds = [point(step, {"fd": top / step / better}) for step in (1, 2, 4)]
            save(tmp_path, arm, seed, fds)
    study = load(tmp_path)
    slow = catching_up(study, ("small", "none"), ("small", "hybnext"))
    assert (slow.factor, slow.budget, slow.within) == (None, 4000, 4000)
    assert slow.target == pytest.approx((2 + 2 + 0.5) / 3)
    assert slow.factors == {0: None, 1: None, 2: None}
    fast = catching_up(study, ("small", "hybnext"), ("small", "none"))
    assert fast.factor == pytest.approx(0.5)
    assert list(fast.factors.values()) == pytest.approx([0.5, 0.5, 0.5])
    assert catching_up(study, ("large", "none"), ("large", "hybnext")) is None


def test_a_curve_holds_like_points_only(tmp_path: Path) -> None:
    points = [
        point(1, {"fd": 5}, split="validate", pictures=50),
        point(2, {"fd": 4}, split="validate", pictures=50),
        point(4, {}, split="validate", pictures=50),
        point(4, {"fd": 2}, split="test", pictures=200),
    ]
    save(tmp_path, "none", 0, points)
    run = load(tmp_path).of(("small", "none"))[0]
    assert [p["step"] for p in like_points(run)] == [1, 2, 4]
    assert curve(run, "fd") == ((1000.0, 2000.0), (5.0, 4.0))
    assert run.budget == (40, "test", 200)


def test_a_mean_curve_needs_every_seed() -> None:
    assert mean_curve([((1, 2, 4), (3, 2, 1)), ((1, 4), (5, 2))]) == ((1, 4), (4, 1.5))
    assert mean_curve([]) == ((), ())


def test_unlike_endings_are_found(tmp_path: Path) -> None:
    save(tmp_path, "none", 0, [point(4, {"fd": 2})])
    save(tmp_path, "none", 1, [point(4, {"fd": 2})])
    save(tmp_path, "rep", 0, [point(2, {"fd": 2})])
    assert endings(load(tmp_path)) == {"small": {(40, "test", 100): 2, (20, "test", 100): 1}}


def test_no_runs_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run the study first"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "no point"),
        ([point(2, {}), point(1, {})], "ascend"),
        ([point(1, {"beauty": 1})], "beauty"),
        ([point(1, {"fd": 0})], "positive"),
        ([point(1, {"fd": "low"})], "fd at step 1 is no number"),
        ([point(1, {"fd": math.nan})], "NaN is no number"),
    ],
)
def test_a_run_that_cannot_be_used_is_refused(tmp_path: Path, points: Any, message: str) -> None:
    path = save(tmp_path, "none", 0, points)
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path)
    assert str(path) in str(error.value)


def test_a_run_under_another_name_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, "none", 0, [point(1, {})])
    path.rename(path.with_name("small-rep-seed0.json"))
    with pytest.raises(ValueError, match="small-none-seed0"):
        load(tmp_path)


@pytest.mark.parametrize("what", ["pictures", "image_tokenizer", "judge"])
def test_runs_made_with_other_things_are_not_mixed(tmp_path: Path, what: str) -> None:
    study_of(tmp_path, {"none": [3.0, 4.0], "hybnext": [2.0, 3.0]})
    path = tmp_path / "runs" / "small-hybnext-seed1.json"
    record = json.loads(path.read_text())
    record["made_with"][what] = "another"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"small-hybnext-seed1: another {what} than the rest"):
        load(tmp_path)


@pytest.mark.parametrize("what", ["teacher", "start"])
def test_seeds_of_an_arm_share_its_teacher_and_its_start(tmp_path: Path, what: str) -> None:
    study_of(tmp_path, {"none": [3.0, 4.0], "hybnext": [2.0, 3.0]})
    path = tmp_path / "runs" / "small-hybnext-seed1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {what: "another"}))
    with pytest.raises(ValueError, match=f"small-hybnext-seed1: another {what} than other seeds"):
        load(tmp_path)


def test_damaged_and_older_results_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, "none", 0, [point(1, {"fd": 1.0})])
    whole = path.read_text()
    path.write_text(whole[:50])
    with pytest.raises(ValueError, match=r"small-none-seed0.json is damaged"):
        load(tmp_path)
    path.write_text(json.dumps({k: v for k, v in json.loads(whole).items() if k != "diagnosis"}))
    with pytest.raises(ValueError, match=r"small-none-seed0.json lacks diagnosis"):
        load(tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"small-none-seed0.json holds no results"):
        load(tmp_path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"small-none-seed0.json is damaged"):
        load(tmp_path)
    path.write_text(whole)
    (path.parents[1] / "setup.json").write_text("{")
    with pytest.raises(ValueError, match=r"setup.json is damaged"):
        load(tmp_path)


@pytest.mark.parametrize("what", ["diagnosis", "validation"])
def test_points_that_were_not_diagnosed_are_named(tmp_path: Path, what: str) -> None:
    path = save(tmp_path, "none", 0, [point(1, {"fd": 2}), point(2, {"fd": 1})])
    record = json.loads(path.read_text())
    (record[what]["points"] if what == "diagnosis" else record[what]).pop()
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"small-none-seed0.json has no {what} at step 2"):
        load(tmp_path)
    del record["points"][0]["measures"]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"small-none-seed0.json lacks measures"):
        load(tmp_path)


def test_an_interval_as_if_seeds_were_not_paired(tmp_path: Path) -> None:
    """Variances of 1 and 4, three seeds each: 2 · 5² / (1² + 4²) degrees of freedom."""
    study = study_of(tmp_path, {"none": [1, 2, 3], "hybnext": [3, 5, 7]})
    found = unpaired(study, LESS, "fd")
    half = student.ppf(0.975, 50 / 17) * math.sqrt(5 / 3)
    assert (found.value, found.n) == (3, 6)
    assert (found.low, found.high) == (pytest.approx(3 - half), pytest.approx(3 + half))
    assert (
        unpaired(study_of(tmp_path / "few", {"none": [1, 2], "hybnext": [3]}), LESS, "fd") is None
    )
