"""Panels by rule: real and generated side by side, chosen by a seeded draw or by the judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arra_med.eval.cohort import Cohort
from arra_med.eval.intervals import Array
from arra_med.schema import PRESENT

RULES = {
    "random": "drawn with the run's seed from all evaluated pictures",
    "worst": "of the others, those whose judged probabilities are farthest from the known labels",
    "best": "of the others, those whose judged probabilities are nearest to the known labels",
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
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The results file's section ``panels`` and the pictures it names.

    Args:
        cohort: the pictures.
        choices: which of them.
        generated: finding → ``(N,)`` the judge's probabilities on the generated pictures.
        real: the same on the real picture of each one's prompt.
    """
    rows: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    samples = cohort.sample_of
    for number, choice in enumerate(choices, start=1):
        row, sample = cohort.generated[choice.row], samples[choice.row]
        stem = f"panels/{number:03d}-{choice.rule}"
        made, source = f"{stem}-generated.png", f"{stem}-real.png"
        files |= {made: cohort.pictures[choice.row], source: cohort.real[row["key"]]}
        rows.append(
            {
                "rule": choice.rule,
                "key": row["key"],
                "index": row["index"],
                "view": sample["view"],
                "prompt": sample["prompt"],
                "generated": made,
                "real": source,
                "asked": [name for name, value in sample["labels"].items() if value == PRESENT],
                "judge_generated": {name: float(p[choice.row]) for name, p in generated.items()},
                "judge_real": {name: float(p[choice.row]) for name, p in real.items()},
            }
        )
    return rows, files
