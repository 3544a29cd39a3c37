"""The study's raw results, read and checked.

A run is one file, ``runs/<size>-<arm>-seed<k>.json``; ``setup.json`` holds what runs share and
``choice.json`` what was tried on validation. Runs that are not there leave gaps, never filled.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from measures import MEASURES

from arra_med.eval.formatting import Estimate, finite

_FIELDS = {
    "arm", "clipped_share", "device", "diagnosis", "evaluated_on", "findings", "losses",
    "made_with", "overrides", "parameters", "points", "seconds", "seed", "size", "start", "teacher",
    "validation", "versions",
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
                a value that is no number, or an FD that is not positive.
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
        known_fd = (at_point(point, "fd") for point in like_points(run))
        if any(fd.value <= 0 for fd in known_fd if fd is not None):
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

    @property
    def every_run(self) -> list[Run]:
        """All runs, of every arm and seed."""
        return [run for seeds in self.runs.values() for run in seeds.values()]

    @property
    def choice_compares(self) -> bool:
        """Whether what was tried had the codes and extractors of every run."""
        made_with = self.choice.get("made_with")
        return made_with is not None and all(
            made_with.items() <= run.record["made_with"].items() for run in self.every_run
        )

    def of(self, arm: Arm) -> Mapping[int, Run]:
        """Runs of an arm by seed; none if it was not run."""
        return self.runs.get(arm, {})


def load(folder: Path) -> Study:
    """Every run under ``folder`` and its setup.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if a file is not as :meth:`Run.read` needs it, or runs do not compare, because
            they learned from other pictures or codes, or were judged by other networks; or runs of
            one arm had other teachers or began from other models.
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
    for what in ("teacher", "start"):
        usual_of: dict[Arm, str | None] = {}
        for run in runs:
            own = run.record[what]
            if usual_of.setdefault((run.size, run.arm), own) != own:
                raise ValueError(f"{run.path.stem}: another {what} than other seeds of its arm")


def at_point(point: Mapping[str, Any], measure: str) -> Estimate | None:
    """A measure at a point; its interval, if any, is over pictures."""
    if measure != "cross_entropy":
        return Estimate.read(point["measures"].get(measure))
    value = finite(point.get("validation_cross_entropy"))
    return None if value is None else Estimate(value=value)


def like_points(run: Run) -> list[dict[str, Any]]:
    """Points judged by the same split and number of pictures: the largest such group.

    FD falls with the number of pictures. Of groups of one size, the one that ends last is taken.
    """
    groups = Counter((point["split"], point["pictures"]) for point in run.points)
    last = {(p["split"], p["pictures"]): place for place, p in enumerate(run.points)}
    chosen = max(groups, key=lambda group: (groups[group], last[group]))
    return [p for p in run.points if (p["split"], p["pictures"]) == chosen]
