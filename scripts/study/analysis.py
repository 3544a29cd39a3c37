"""What the study's runs say: means over seeds, differences paired by seed, tokens to a given FD.

A run is one file, ``runs/<size>-<arm>-seed<k>.json``; ``setup.json`` holds what runs share and
``choice.json`` what was tried on validation. Runs that are not there leave gaps, never filled.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from measures import MEASURES
from scipy.stats import t as student

from arra_med.eval.formatting import Estimate, counted, finite

FEWEST_SEEDS = 3
"""With fewer, a verdict says so."""
LEVEL = 0.95
"""Of every interval over seeds."""

_FIELDS = {
    "arm", "clipped_share", "device", "diagnosis", "findings", "losses", "made_with", "overrides",
    "parameters", "points", "seconds", "seed", "size", "teacher", "validation", "versions",
}  # fmt: skip
_POINT = {"measures", "pictures", "samples", "split", "step", "tokens"}
Arm = tuple[str, str]
"""Model size and what was varied: ``("small", "hybnext")``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """One trained model: its raw record and what is asked of it."""

    size: str
    arm: str
    seed: int
    record: Mapping[str, Any]
    path: Path

    @classmethod
    def read(cls, path: Path) -> Self:
        """The run in a file.

        Raises:
            ValueError: if it is damaged or of another version, holds another run than its name
                says, no point, an unknown measure, points out of order or without their diagnosis,
                or an FD that is not positive.
        """
        record = _read_json(path)
        if missing := _FIELDS - record.keys():
            raise ValueError(_incomplete(path, missing))
        run = cls(
            size=record["size"], arm=record["arm"], seed=record["seed"], record=record, path=path
        )
        expected = f"{run.size}-{run.arm}-seed{run.seed}.json"
        if path.name != expected:
            raise ValueError(f"{path} holds the run of {expected}: rename it or write it again")
        if not run.points:
            raise ValueError(f"{path} has no point: it was not evaluated")
        if missing := {key for point in run.points for key in _POINT - point.keys()}:
            raise ValueError(_incomplete(path, missing))
        for what, found in (
            ("diagnosis", record["diagnosis"].get("points", [])),
            ("validation", record["validation"]),
        ):
            known = {line["step"] for line in found}
            if absent := [point["step"] for point in run.points if point["step"] not in known]:
                raise ValueError(f"{path} has no {what} at step {absent[0]}: run it again")
        if (steps := [point["step"] for point in run.points]) != sorted(steps):
            raise ValueError(f"{path}: points must ascend by step, found {steps}")
        unknown = {key for point in run.points for key in point["measures"]} - MEASURES.keys()
        if unknown:
            raise ValueError(f"{path}: unknown measures {sorted(unknown)}; known: {list(MEASURES)}")
        for point in run.points:
            if wrong := [key for key in point["measures"] if at_point(point, key) is None]:
                raise ValueError(f"{path}: {wrong[0]} at step {point['step']} is no number")
        if any(value <= 0 for value in curve(run, "fd")[1]):
            raise ValueError(f"{path}: FD must be positive, for its logarithm is taken")
        return run

    @property
    def points(self) -> list[dict[str, Any]]:
        """Evaluations, by step; the last is the final one."""
        return list(self.record["points"])

    @property
    def budget(self) -> tuple[int, str, int]:
        """Final samples seen, and the split and number of pictures they were judged by."""
        final = self.points[-1]
        return final["samples"], final["split"], final["pictures"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """All runs, by arm and seed; what they share and how it was chosen (empty if not recorded)."""

    runs: Mapping[Arm, Mapping[int, Run]]
    setup: Mapping[str, Any] = field(default_factory=dict)
    choice: Mapping[str, Any] = field(default_factory=dict)

    def of(self, arm: Arm) -> Mapping[int, Run]:
        """Runs of an arm by seed; none if it was not run."""
        return self.runs.get(arm, {})


def load(folder: Path) -> Study:
    """Every run under ``folder`` and its setup.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if a file is not as :meth:`Run.read` needs it, or runs do not compare, because
            they learned from other pictures or codes, or were judged by other networks; or runs of
            one arm had other teachers.
    """
    if not (paths := sorted((folder / "runs").glob("*.json"))):
        raise FileNotFoundError(f"no runs in {folder / 'runs'}: run the study first")
    read = [Run.read(path) for path in paths]
    _check_alike(read)
    runs: dict[Arm, dict[int, Run]] = {}
    for run in read:
        runs.setdefault((run.size, run.arm), {})[run.seed] = run
    files = (folder / "setup.json", folder / "choice.json")
    setup, choice = (_read_json(file) if file.is_file() else {} for file in files)
    return Study(runs=runs, setup=setup, choice=choice)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): write it again with run.py") from error
    if isinstance(tree, dict):
        return tree
    raise ValueError(f"{path} holds no results: write it again with run.py")


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _incomplete(path: Path, missing: Iterable[str]) -> str:
    return (
        f"{path} lacks {', '.join(sorted(missing))}: it is of another version of the study; run "
        "it again"
    )


def _check_alike(runs: Sequence[Run]) -> None:
    """Refuse runs that learned from other pictures or codes, or were judged by other networks."""
    for what in runs[0].record["made_with"]:
        found = Counter(run.record["made_with"][what] for run in runs)
        usual = found.most_common(1)[0][0]
        others = [run.path.stem for run in runs if run.record["made_with"][what] != usual]
        if others:
            raise ValueError(f"{', '.join(others)}: another {what} than the rest; do not mix them")
    teachers: dict[Arm, str | None] = {}
    for run in runs:
        teacher = run.record["teacher"]
        if teachers.setdefault((run.size, run.arm), teacher) != teacher:
            raise ValueError(f"{run.path.stem}: another teacher than other seeds of its arm")


def at_point(point: Mapping[str, Any], measure: str) -> Estimate | None:
    """A measure at a point; its interval, if any, is over pictures."""
    if measure != "cross_entropy":
        return Estimate.read(point["measures"].get(measure))
    value = finite(point.get("validation_cross_entropy"))
    return None if value is None else Estimate(value=value)


def over_seeds(values: Sequence[float]) -> Estimate | None:
    """Mean and Student's t-interval (n - 1 degrees of freedom); no interval from one value."""
    n = len(values)
    if n < 2:
        return Estimate(value=values[0], n=1) if n else None
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = half_width(n) * deviation
    return Estimate(value=mean, low=mean - half, high=mean + half, n=n)


def half_width(n: int) -> float:
    """Of the interval of a mean of ``n`` values, in their standard deviations."""
    return float(student.ppf((1 + LEVEL) / 2, n - 1)) / math.sqrt(n)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A final measure over an arm's seeds.

    Attributes:
        by_seed: value of each seed that has one.
        seeds: mean and interval over seeds.
        pictures: mean over seeds of the runs' own intervals, which are over pictures; ``None``
            unless all have one.
    """

    by_seed: Mapping[int, float]
    seeds: Estimate | None
    pictures: Estimate | None


def spread(study: Study, arm: Arm, measure: str) -> Spread:
    """The final value of a measure over an arm's seeds."""
    found = {seed: at_point(run.points[-1], measure) for seed, run in study.of(arm).items()}
    known = {seed: value for seed, value in sorted(found.items()) if value is not None}
    by_seed = {seed: value.value for seed, value in known.items()}
    seeds = over_seeds(list(by_seed.values()))
    lows = [value.low for value in known.values() if value.low is not None]
    highs = [value.high for value in known.values() if value.high is not None]
    pictures = None
    if seeds is not None and len(lows) == len(highs) == len(known):
        low, high = (math.fsum(ends) / len(known) for ends in (lows, highs))
        pictures = Estimate(value=seeds.value, low=low, high=high, n=len(known))
    return Spread(by_seed=by_seed, seeds=seeds, pictures=pictures)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A difference of arms within each seed: the sum of ``plus`` less the sum of ``minus``.

    Attributes:
        label: in tables and figures.
        plus: arms added.
        minus: arms taken away.
    """

    label: str
    plus: tuple[Arm, ...]
    minus: tuple[Arm, ...]

    @property
    def simple(self) -> bool:
        """Whether one arm is held against one other, so that better and worse have a meaning."""
        return len(self.plus) == len(self.minus) == 1


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A contrast's value in each seed that all its arms have, over seeds, and the verdict."""

    by_seed: Mapping[int, float]
    seeds: Estimate | None
    verdict: str


def difference(study: Study, contrast: Contrast, measure: str) -> Difference:
    """The paired difference of a final measure."""
    plus = [spread(study, arm, measure).by_seed for arm in contrast.plus]
    minus = [spread(study, arm, measure).by_seed for arm in contrast.minus]
    common = set.intersection(*(set(values) for values in (*plus, *minus)))
    by_seed = {
        seed: math.fsum(v[seed] for v in plus) - math.fsum(v[seed] for v in minus)
        for seed in sorted(common)
    }
    seeds = over_seeds(list(by_seed.values()))
    missing = any(not study.of(arm) for arm in (*contrast.plus, *contrast.minus))
    word = "not yet run" if missing else verdict(seeds)
    aim = MEASURES[measure].aim
    if word in ("lower", "higher"):
        if contrast.simple and aim is not None:
            word += " (better)" if word == aim else " (worse)"
        if len(by_seed) < FEWEST_SEEDS:
            word += f" with {len(by_seed)} seeds"
    return Difference(by_seed=by_seed, seeds=seeds, verdict=word)


def verdict(seeds: Estimate | None) -> str:
    """The rule: a direction only if the interval over seeds excludes 0."""
    if seeds is None:
        return "no seed in common"
    if seeds.low is None or seeds.high is None:
        return f"no interval from {counted(seeds.n, 'seed')}"
    if seeds.low <= 0 <= seeds.high:
        return f"not told apart with {counted(seeds.n, 'seed')}"
    return "lower" if seeds.high < 0 else "higher"


Line = tuple[tuple[float, ...], tuple[float, ...]]
"""Tokens seen and a value at each."""


def like_points(run: Run) -> list[dict[str, Any]]:
    """Points judged by the same split and number of pictures: the largest such group.

    FD falls with the number of pictures. Of groups of one size, the one that ends last is taken.
    """
    groups = Counter((point["split"], point["pictures"]) for point in run.points)
    last = {(p["split"], p["pictures"]): place for place, p in enumerate(run.points)}
    chosen = max(groups, key=lambda group: (groups[group], last[group]))
    return [p for p in run.points if (p["split"], p["pictures"]) == chosen]


def curve_sets(study: Study) -> list[tuple[int, str]]:
    """Numbers of pictures, and their split, that the points of the curves were judged by."""
    points = [like_points(run)[0] for runs in study.runs.values() for run in runs.values()]
    return sorted({(point["pictures"], point["split"]) for point in points})


def endings(study: Study) -> dict[str, Counter[tuple[int, str, int]]]:
    """By size, how many runs end with which :attr:`Run.budget`."""
    ends: dict[str, Counter[tuple[int, str, int]]] = {}
    for (size, _), runs in sorted(study.runs.items()):
        ends.setdefault(size, Counter()).update(run.budget for run in runs.values())
    return ends


def curve(run: Run, measure: str) -> Line:
    """A measure against tokens seen, over like points that have it."""
    known = [(p["tokens"], at_point(p, measure)) for p in like_points(run)]
    pairs = [(float(tokens), value.value) for tokens, value in known if value is not None]
    return tuple(tokens for tokens, _ in pairs), tuple(value for _, value in pairs)


def mean_curve(curves: Sequence[Line]) -> Line:
    """Mean over seeds wherever all seeds have a point."""
    tables = [dict(zip(*line, strict=True)) for line in curves]
    if not tables:
        return (), ()
    tokens = sorted(set.intersection(*(set(table) for table in tables)))
    means = (math.fsum(table[at] for table in tables) / len(tables) for at in tokens)
    return tuple(tokens), tuple(means)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """When a curve first comes down to a target.

    Attributes:
        tokens: seen by then; ``None`` if it never does.
        at_start: whether its first point is there already, so that ``tokens`` is an upper bound.
    """

    tokens: float | None
    at_start: bool = False


def first_reach(line: Line, target: float) -> Reach:
    """Interpolates log value on log tokens between the points around the first crossing."""
    tokens, values = line
    for place, value in enumerate(values):
        if value > target:
            continue
        if place == 0:
            return Reach(tokens=tokens[0], at_start=True)
        above, before = values[place - 1], tokens[place - 1]
        share = math.log(above / target) / math.log(above / value)
        return Reach(tokens=before * (tokens[place] / before) ** share)
    return Reach(tokens=None)


@dataclass(frozen=True, kw_only=True)
class Catching:
    """Tokens that one arm needs for the FD at which another ended.

    Attributes:
        target: that FD, of the seed means.
        within: tokens that the other arm had seen by then.
        reach: when the first arm's seed mean gets there.
        budget: tokens of the first arm's last point.
        factors: by seed, its tokens as a multiple of the other's; ``None`` where not reached.
    """

    target: float
    within: float
    reach: Reach
    budget: float
    factors: Mapping[int, float | None]

    @property
    def factor(self) -> float | None:
        """Tokens needed as a multiple of the other arm's; ``None`` if it was not reached."""
        return None if self.reach.tokens is None else self.reach.tokens / self.within


def catching_up(study: Study, arm: Arm, other: Arm) -> Catching | None:
    """How long ``arm`` trains to reach the FD that ``other`` ends with.

    Returns:
        ``None`` if there is no seed in which both have a curve.
    """
    seeds = sorted(study.of(arm).keys() & study.of(other).keys())
    lines = {s: (curve(study.of(arm)[s], "fd"), curve(study.of(other)[s], "fd")) for s in seeds}
    lines = {seed: pair for seed, pair in lines.items() if pair[0][0] and pair[1][0]}
    mine, others = (mean_curve([pair[i] for pair in lines.values()]) for i in (0, 1))
    if not mine[0] or not others[0]:
        return None
    factors = {}
    for seed, (one, two) in lines.items():
        tokens = first_reach(one, two[1][-1]).tokens
        factors[seed] = None if tokens is None else tokens / two[0][-1]
    return Catching(
        target=others[1][-1],
        within=others[0][-1],
        reach=first_reach(mine, others[1][-1]),
        budget=mine[0][-1],
        factors=factors,
    )
