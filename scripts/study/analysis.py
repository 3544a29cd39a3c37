"""What the study's runs say: means over seeds, differences paired by seed, tokens to a given FD."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from measures import MEASURES
from records import Arm, Run, Study, at_point, like_points
from scipy.stats import t as student
from scipy.stats import ttest_ind

from arra_med.eval.formatting import Estimate, counted

FEWEST_SEEDS = 3
"""With fewer, a verdict says so."""
LEVEL = 0.95
"""Of every interval over seeds."""


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


def unpaired(study: Study, contrast: Contrast, measure: str) -> Estimate | None:
    """The difference of two arms' means as if their seeds had nothing in common (Welch's interval).

    Returns:
        ``None`` if an arm has fewer than two seeds, or more than two arms are compared.
    """
    if not contrast.simple:
        return None
    plus, minus = (
        [*spread(study, arm, measure).by_seed.values()] for arm in (*contrast.plus, *contrast.minus)
    )
    if min(len(plus), len(minus)) < 2:
        return None
    test = ttest_ind(plus, minus, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    gap = math.fsum(plus) / len(plus) - math.fsum(minus) / len(minus)
    return Estimate(value=gap, low=float(low), high=float(high), n=len(plus) + len(minus))


def verdict(seeds: Estimate | None) -> str:
    """The rule: a direction only if the interval over seeds excludes 0."""
    if seeds is None:
        return "no seed in common"
    if seeds.low is None or seeds.high is None:
        return f"no interval from {counted(seeds.n, 'seed')}"
    if seeds.low <= 0 <= seeds.high:
        return f"not told apart with {counted(seeds.n, 'seed')}"
    return "lower" if seeds.high < 0 else "higher"


def twice(study: Study, short: str, long: str) -> Study:
    """What was trained twice, of two sizes that differ in their number of steps alone.

    Returns:
        Runs of both sizes by arm and seed, the longer ones cut where the short ones end; those
        alone that were judged there, and alike.
    """
    runs: dict[Arm, dict[int, Run]] = {}
    for (size, arm), by_seed in study.runs.items():
        for seed in by_seed.keys() & study.of((long, arm)).keys() if size == short else ():
            one, other = by_seed[seed], study.of((long, arm))[seed]
            until = [point for point in other.points if point["step"] <= one.points[-1]["step"]]
            cut = replace(other, record={**other.record, "points": until})
            if until and cut.budget == one.budget:
                runs.setdefault((short, arm), {})[seed] = one
                runs.setdefault((long, arm), {})[seed] = cut
    return Study(runs=runs)


Line = tuple[tuple[float, ...], tuple[float, ...]]
"""Tokens seen and a value at each."""


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
