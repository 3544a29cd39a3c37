"""Panels by rule: real and generated side by side, chosen by a seeded draw or by the judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from arra_med.eval.cohort import Cohort
from arra_med.eval.estimators import Array
from arra_med.eval.privacy import Closest
from arra_med.schema import ABSENT, PRESENT

RULES = {
    "random": "drawn with the run's seed from all evaluated pictures",
    "worst": "of the others, those whose judged probabilities are farthest from the known labels",
    "best": "of the others, those whose judged probabilities are nearest to the known labels",
    "closest": "those nearest to a training picture, in whichever space they are nearest",
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One panel: a rule and a row of the cohort's generated pictures."""

    rule: str
    row: int


def choose(distances: Array, count: int, generator: np.random.Generator) -> list[Choice]:
    """Half of the panels at random, a quarter worst and a quarter best by the judge.

    Args:
        distances: ``(N,)`` of the judge's verdicts from the labels, NaN where no label is known.
        count: panels in all; fewer if there are fewer pictures.
        generator: draws.
    """
    by_judge = count // 4
    order = generator.permutation(len(distances))
    random = sorted(int(row) for row in order[: count - 2 * by_judge])
    judged = [row for row in np.flatnonzero(np.isfinite(distances)) if row not in random]
    judged.sort(key=lambda row: (-distances[row], row))
    worst = judged[:by_judge]
    best = judged[len(worst) :][::-1][:by_judge]
    return [
        Choice(rule=rule, row=int(row))
        for rule, rows in (("random", random), ("worst", worst), ("best", best))
        for row in rows
    ]


def panels(
    cohort: Cohort,
    choices: Sequence[Choice],
    generated: Mapping[str, Array],
    real: Mapping[str, Array],
    closest: Sequence[Closest] = (),
    training: Mapping[str, bytes] = MappingProxyType({}),
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The results file's section ``panels`` and the pictures it names.

    Args:
        cohort: the pictures.
        choices: which of them.
        generated: finding → ``(N,)`` the judge's probabilities on the generated pictures.
        real: the same on the real picture of each one's prompt.
        closest: further ones, each to be shown beside its nearest training picture.
        training: key → PNG bytes of those.
    """
    rows: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    samples = cohort.sample_of
    places = [(choice.rule, choice.row) for choice in choices]
    places += [("closest", near.row) for near in closest]
    for number, (rule, place) in enumerate(places, start=1):
        row, sample = cohort.generated[place], samples[place]
        stem = f"panels/{number:03d}-{rule}"
        made, source = f"{stem}-generated.png", f"{stem}-real.png"
        files |= {made: cohort.pictures[place], source: cohort.real[row["key"]]}
        panel: dict[str, Any] = {
            "rule": rule,
            "key": row["key"],
            "index": row["index"],
            "view": sample["view"],
            "prompt": sample["prompt"],
            "generated": made,
            "real": source,
            "asked": [name for name, value in sample["labels"].items() if value == PRESENT],
            "excluded": [name for name, value in sample["labels"].items() if value == ABSENT],
            "judge_generated": {name: float(p[place]) for name, p in generated.items()},
            "judge_real": {name: float(p[place]) for name, p in real.items()},
        }
        if rule == "closest":
            near = closest[number - 1 - len(choices)]
            files[source] = training[near.train_key]
            panel |= {"judge_real": {}, "train_key": near.train_key}
            panel |= {"distance": near.distance, "space": near.space}
        rows.append(panel)
    return rows, files
