"""What the page's tables say of the results: every cell, as text."""

from collections.abc import Callable, Mapping, Sequence

from analysis import (
    Contrast,
    Difference,
    Spread,
    difference,
    spread,
    twice,
    unpaired,
)
from measures import MEASURES
from questions import PAIR, Theirs
from records import Arm, Study

from arra_med.eval.formatting import (
    Estimate,
    counted,
    decimal,
    interval,
    listed,
    shared_places,
)
from arra_med.schema import CHEXPERT_LABELS

NOT_RUN, NOTHING = "not yet run", "–"
SHORT = ("fd", "fd_unlabelled", "auroc", "side_agreement", "text_alignment", "cross_entropy")
ASKED = ("fd", "auroc", "side_agreement")
"""What the answers at the top are about."""


class Words:
    """What the template asks of the results: every cell of every table, as text.

    Args:
        study: the results.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.told: set[tuple[Contrast, str]] = set()

    def places(self, measure: str) -> int:
        """Decimals that show three digits of the smallest final mean of a measure."""
        means = [spread(self.study, arm, measure).seeds for arm in self.study.runs]
        sizes = [abs(mean.value) for mean in means if mean is not None and mean.value]
        return shared_places(Estimate(value=min(sizes))) if sizes else 2

    def has(self, arms: Sequence[Arm], measure: str) -> bool:
        """Whether a final point of any of the arms has the measure."""
        return any(spread(self.study, arm, measure).by_seed for arm in arms)

    def seeds(self, arm: Arm) -> str:
        """How many seeds of an arm there are."""
        return str(len(self.study.of(arm)) or NOT_RUN)

    def counted_seeds(self, arm: Arm) -> str:
        """``3 seeds``."""
        found = len(self.study.of(arm))
        return counted(found, "seed") if found else NOT_RUN

    def value(self, arm: Arm, measure: str) -> str:
        """Mean over seeds and its interval, and the number of seeds if some lack the measure."""
        seeds = spread(self.study, arm, measure).seeds
        if seeds is None:
            return NOTHING if self.study.of(arm) else NOT_RUN
        few = "" if seeds.n == len(self.study.of(arm)) else f", {counted(seeds.n, 'seed')}"
        return written(seeds, self.places(measure)) + few

    def pictures(self, arm: Arm, measure: str) -> str:
        """The interval over pictures, averaged over seeds."""
        own = spread(self.study, arm, measure).pictures
        return interval(own, self.places(measure)) or NOTHING

    def gap(self, contrast: Contrast, measure: str) -> str:
        """The paired difference with its interval; every interval told is counted."""
        seeds = difference(self.study, contrast, measure).seeds
        if seeds is None:
            return NOTHING
        if seeds.low is not None:
            self.told.add((contrast, measure))
        return written(seeds, self.places(measure) + 1)

    def unpaired(self, contrast: Contrast) -> str:
        """Intervals of what is asked first as if seeds were not paired; empty if there is none."""
        found = {measure: unpaired(self.study, contrast, measure) for measure in ASKED}
        return listed([
            f"{MEASURES[measure].label} {interval(one, self.places(measure) + 1)}"
            for measure, one in found.items() if one is not None
        ])  # fmt: skip

    def excluding(self) -> int:
        """How many of the intervals told do not hold 0."""
        verdicts = [self.verdict(contrast, measure) for contrast, measure in self.told]
        return sum(word.startswith(("lower", "higher")) for word in verdicts)

    def verdict(self, contrast: Contrast, measure: str) -> str:
        """What the interval says, in words."""
        return difference(self.study, contrast, measure).verdict

    def diagnosed(self) -> str:
        """How many pictures models were looked into with."""
        return listed(
            sorted({str(run.record["diagnosis"]["samples"]) for run in self.study.every_run})
        )

    def inside(self, arm: Arm, name: str, *, last: bool = True) -> str:
        """Mean over seeds of what was measured on an arm's first or last checkpoint.

        Args:
            arm: any.
            name: ``prompt`` for the nats a picture that the prompt saves; of an aligned arm also
                ``ratio`` of the weighted alignment term's gradient to that of cross-entropy, their
                ``cosine``, or the alignment ``loss`` on the validation split.
            last: at the last point rather than at the first.
        """
        values = []
        for run in self.study.of(arm).values():
            evaluated = run.points[-1 if last else 0]
            step, codes = evaluated["step"], evaluated["tokens"] / evaluated["samples"]
            found = run.record["diagnosis"]
            point = next(point for point in found["points"] if point["step"] == step)
            pull = point["pull"]
            if name == "prompt":
                values.append(codes * (point["dropped"] - point["prompted"]))
            elif pull is None:
                return NOTHING
            elif name == "loss":
                lines = run.record["validation"]
                values.append(next(line["alignment"] for line in lines if line["step"] == step))
            elif name == "ratio":
                values.append(found["weight"] * pull["alignment"] / pull["cross_entropy"])
            else:
                values.append(pull[name])
        return decimal(sum(values) / len(values))

    def findings(self, arms: Sequence[Arm]) -> list[str]:
        """Findings that any run of the arms was judged by, in the schema's order."""
        runs = [run for arm in arms for run in self.study.of(arm).values()]
        judged = {name for run in runs for name in run.record["findings"]}
        return [name for name in CHEXPERT_LABELS if name in judged]

    def finding(self, arm: Arm, name: str, key: str) -> str:
        """Mean over seeds of a finding's final ``auroc`` or ``side``."""
        values = [
            value
            for run in self.study.of(arm).values()
            if (value := run.record["findings"].get(name, {}).get(key)) is not None
        ]
        return decimal(sum(values) / len(values)) if values else NOTHING

    def pairs(self, contrast: Contrast) -> str:
        """How many seeds a contrast has."""
        return str(len(difference(self.study, contrast, "fd").by_seed) or NOTHING)

    def repeated(self, contrasts: Sequence[Contrast]) -> list[Contrast]:
        """Those that have an interval: more than one seed."""
        return [one for one in contrasts if len(difference(self.study, one, "fd").by_seed) > 1]

    def verdicts(self, contrast: Contrast, measures: Sequence[str]) -> dict[str, str]:
        """Measures by verdict, in words: ``{"lower (better)": "FD and KID"}``."""
        found: dict[str, list[str]] = {}
        for measure in measures:
            if difference(self.study, contrast, measure).seeds is not None:
                found.setdefault(self.verdict(contrast, measure), []).append(
                    MEASURES[measure].label
                )
        return {verdict: listed(labels) for verdict, labels in found.items()}

    def agreement(self, row: Theirs) -> str:
        """Whether our difference has the direction of the paper's."""
        if row.contrast is None or row.lower is None:
            return NOTHING
        ours = self.verdict(row.contrast, row.measure)
        direction = ours.partition(" (")[0]
        if direction not in ("lower", "higher"):
            return ours
        theirs = "lower" if row.lower else "higher"
        return "same" if direction == theirs else "opposite"


def written(estimate: Estimate, places: int) -> str:
    """``3.10 (2.90 to 3.30)``, or the value alone where there is no interval."""
    ends = interval(estimate, places)
    return decimal(estimate.value, places) + (f" ({ends})" if ends else "")


def trained_twice(study: Study, places: Callable[[str], int]) -> list[list[str]]:
    """Rows of what was trained twice: of each arm, then of the main arms' difference."""
    sizes, (plain, aligned) = ("small", "longer"), PAIR
    both = twice(study, *sizes)
    rows = []
    for arm in sorted({arm for _, arm in both.runs}):
        values = {name: [spread(both, (size, arm), name) for size in sizes] for name in SHORT}
        rows += _by_seed(f"`{arm}`", values, places)
    label = f"`{aligned}` − `{plain}`"
    contrasts = [
        Contrast(label=label, plus=((size, aligned),), minus=((size, plain),)) for size in sizes
    ]
    gaps = {name: [difference(both, one, name) for one in contrasts] for name in SHORT}
    return rows + _by_seed(label, gaps, lambda name: places(name) + 1)


def _by_seed(
    label: str,
    values: Mapping[str, Sequence[Spread | Difference]],
    places: Callable[[str], int],
) -> list[list[str]]:
    """A row for each seed and one for their mean; a cell holds all of a measure's values."""
    columns = {
        name: [
            {**one.by_seed, "mean": one.seeds.value} if one.seeds is not None else {}
            for one in found
        ]
        for name, found in values.items()
    }
    seeds = {seed for found in values.values() for one in found for seed in one.by_seed}
    rows: list[int | str] = [*sorted(seeds), *(["mean"] if seeds else [])]

    def cell(name: str, row: int | str) -> str:
        known = [one.get(row) for one in columns[name]]
        return ", ".join(NOTHING if v is None else decimal(v, places(name)) for v in known)

    return [[label, str(row), *(cell(name, row) for name in values)] for row in rows]
