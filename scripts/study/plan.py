"""The study as steps: what makes pictures, codes, teachers and judges, and what every run does.

``arms.yaml`` says what is compared. Every step is a public command, or a script of this folder.
"""

import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from arms import Arms
from steps import Step, with_needs

from arra_med import config
from arra_med.errors import RequestError
from arra_med.settings import Settings

HERE = Path(__file__).parent
RECIPE = HERE / "study.yaml"
TEACHERS = {"cross-modal": "text", "vision-only": "augmentation", "supervised": "labels"}
"""Teacher → what `train_teacher.py` trains it by."""
UNLABELLED = "unlabelled"
"""The second extractor: trained as the vision-only teacher is, on the judge's pictures."""
COLLECTIONS = {
    "teacher": ("21_000", "12", "[0.95, 0.05, 0]"),
    "judge": ("8_400", "13", "[0.95, 0.05, 0]"),
}
"""Beside the study's own pictures: how many, seed, shares of train, validate and test."""
_LEARNING_CURVE = ["evaluation.memorisation.enabled=false", "evaluation.bootstrap=200"]
"""Of evaluations that no report is read of: before a run's end, and of candidates."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
        size: name of a model size.
        arm: name of what is varied.
        seed: of initial weights, order of samples, and pictures.
        overrides: of the recipe, without placeholders.
        points: training steps after which pictures are drawn; the last is the end.
        split: whose prompts are drawn.
        candidate: of a choice on validation, what is tried; empty for the study itself.
    """

    size: str
    arm: str
    seed: int
    overrides: tuple[str, ...]
    points: tuple[int, ...]
    split: str = "test"
    candidate: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder and its results."""
        return "-".join([self.size, self.arm, f"seed{self.seed}"])


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is to be run.

    Attributes:
        steps: all of it, needs first.
        runs: whose results are the study's.
        candidates: whose results are a choice on validation.
    """

    steps: list[Step]
    runs: list[Run]
    candidates: list[Run]


class Plan:
    """Steps of a study in one folder.

    Args:
        output: the folder.
        arms: what ``arms.yaml`` holds.
    """

    def __init__(self, output: Path, arms: Arms) -> None:
        self.output = output
        self.arms = arms

    @property
    def prepared(self) -> Path:
        """The study's own pictures."""
        return self.output / "prepared"

    def folder(self, run: Run) -> Path:
        """What a run writes."""
        return self.output / "runs" / run.name

    def select(self, what: Sequence[str], seeds: Sequence[int] = ()) -> Selection:
        """Steps of groups, of ``choose``, of ``setup``, or single steps of the setup by name.

        Args:
            what: their names.
            seeds: of the groups' runs; by default those that each names.

        Raises:
            RequestError: if there is nothing of a name.
        """
        setup = {step.name: step for step in self.setup()}
        groups = self.arms.groups
        if unknown := [word for word in what if word not in {"setup", "choose", *groups, *setup}]:
            raise RequestError(
                f"nothing is called {', '.join(unknown)}: there are setup, choose, the groups "
                f"{', '.join(groups)}, and the steps {', '.join(setup)}"
            )
        runs = [run for word in what if word in groups for run in self.runs(word, seeds)]
        candidates = self.candidates() if "choose" in what else []
        wanted = [step for name, step in setup.items() if name in what or "setup" in what]
        wanted += [step for run in [*candidates, *runs] for step in self.steps(run)]
        return Selection(
            steps=with_needs(wanted, list(setup.values())), runs=runs, candidates=candidates
        )

    def runs(self, group: str, seeds: Sequence[int] = ()) -> list[Run]:
        """Every run of a group."""
        chosen = self.arms.groups[group]
        seeds = seeds or chosen.seeds or self.arms.seeds
        points = chosen.points or self.arms.points
        return [
            self._run(size, arm, seed, points)
            for seed, size, arm in product(seeds, chosen.sizes, chosen.arms)
        ]

    def candidates(self) -> list[Run]:
        """Runs by which settings are chosen, on validation."""
        choose, points = self.arms.choose, self.arms.points[-1:]
        return [
            self._run(choose.size, arm, choose.seed, points, split="validate", more=(given,))
            for arm, given in product(choose.arms, choose.training)
        ]

    def _run(
        self,
        size: str,
        arm: str,
        seed: int,
        points: tuple[int, ...],
        *,
        split: str = "test",
        more: tuple[str, ...] = (),
    ) -> Run:
        given = [*self.arms.sizes[size], *self.arms.arms[arm], *more]
        return Run(
            size=size,
            arm="-".join([arm, *(one.partition("=")[2] for one in more)]),
            seed=seed,
            overrides=tuple(one.replace("{prepared}", str(self.prepared)) for one in given),
            points=points,
            split=split,
            candidate=more,
        )

    def setup(self) -> list[Step]:
        """Pictures, image tokenizer, codes, teachers and their vectors, judge, text model."""
        teachers = {name: f"{self.prepared}-teacher-{name}" for name in TEACHERS}
        steps = [
            self._verb("ingest", "ingest"),
            *(self._collection(name) for name in COLLECTIONS),
            self._verb("tokenizer", "train-tokenizer", needs=("ingest",)),
            *(
                _script(
                    f"teacher-{name}", "train_teacher.py", "--prepared", f"{self.prepared}-teacher",
                    "--output", teachers[name], "--objective", objective, *self._scaled("teacher"),
                    needs=("ingest-teacher",),
                )
                for name, objective in TEACHERS.items()
            ),
            _script(
                UNLABELLED, "train_teacher.py", "--prepared", f"{self.prepared}-judge",
                "--output", f"{self.prepared}-judge-{UNLABELLED}", "--objective", "augmentation",
                *self._scaled("teacher"), needs=("ingest-judge",),
            ),
            self._verb("tokenize", "tokenize", needs=("tokenizer",)),
            _script(
                "reconstructions", "reconstruct.py", "--prepared", str(self.prepared),
                "--tokenizer", str(self.output / "tokenizer"),
                "--output", str(self.output / "reconstructions"),
                needs=("tokenize",),
            ),
            self._verb(
                "reference", "evaluate", f"paths.generated={self.output}/reconstructions",
                f"paths.evaluation={self.output}/reference", "evaluation.no_teacher=true",
                needs=("reconstructions", "ingest-judge", UNLABELLED),
            ),
            _script(
                "text-first", "train_text.py", "--config", str(RECIPE), "--prepared",
                str(self.prepared), "--output", f"{self.prepared}-text-first",
                *self._scaled("text"), needs=("ingest",),
            ),
        ]  # fmt: skip
        for teacher, aggregation in (
            ("cross-modal", "cls"), ("cross-modal", "mean"),
            ("vision-only", "cls"), ("supervised", "cls"),
        ):  # fmt: skip
            steps.append(
                self._verb(
                    f"features-{teacher}-{aggregation}", "features",
                    f"features.teacher.weights={teachers[teacher]}",
                    f"features.aggregation={aggregation}",
                    needs=(f"teacher-{teacher}", "ingest"),
                )
            )  # fmt: skip
        return steps

    def steps(self, run: Run) -> Iterator[Step]:
        """Training, diagnosis of its checkpoints, and pictures and evaluation at every point."""
        folder = self.folder(run)
        own = [f"seed={run.seed}", *run.overrides, f"paths.output={folder}"]
        every = f"training.checkpoint_every={run.points[0]}"
        try:
            needs = _reads(run.overrides)
        except RequestError as error:
            said = f"size {run.size}, arm {run.arm} ({' '.join(run.overrides)})"
            raise RequestError(f"{said}: {error}") from error
        train = self._verb(f"{run.name}-train", "train", *own, every, needs=needs)
        yield replace(train, trains=True)
        for point in run.points:
            yield self._verb(
                _export(run, point), "export", *own, f"paths.export={folder}/export-{point}",
                *self._scaled("train"), "--checkpoint", f"step-{point:08d}",
                needs=(f"{run.name}-train",),
            )  # fmt: skip
        yield _script(
            f"{run.name}-diagnose", "diagnose.py", str(RECIPE), str(self.diagnosis(run)),
            *self._paths(self.prepared), *own, *self._scaled("train"), needs=(f"{run.name}-train",),
        )  # fmt: skip
        yield Step(  # 16 bytes a parameter each; nothing reads them any more
            name=f"{run.name}-tidy",
            command=("rm", "-rf", str(folder / "run" / "checkpoints")),
            needs=(f"{run.name}-diagnose", *(_export(run, point) for point in run.points)),
        )
        for point in run.points:
            for guidance in self.guidances(run):
                yield from self._point(run, point, own, guidance)

    def diagnosis(self, run: Run) -> Path:
        """What ``diagnose.py`` writes of a run."""
        return self.folder(run) / "diagnosis.json"

    def guidances(self, run: Run) -> Sequence[float | None]:
        """Scales of guidance to draw with; ``None`` is the recipe's."""
        return self.arms.choose.guidance if run.candidate else [None]

    def _point(
        self, run: Run, point: int, own: Sequence[str], guidance: float | None
    ) -> Iterator[Step]:
        where = self.point_folder(run, point, guidance)
        at = [*own, f"paths.export={self.folder(run)}/export-{point}"]
        at += [f"paths.generated={where}/generated", f"paths.evaluation={where}/evaluation"]
        at += [f"generation.split={run.split}"]
        at += [f"generation.guidance={guidance}"] * (guidance is not None)
        name = f"{run.name}-{where.name}"
        yield self._verb(f"{name}-generate", "generate", *at, needs=(_export(run, point),))
        whole = point == run.points[-1] and not run.candidate
        at += [] if whole else _LEARNING_CURVE
        yield self._verb(
            f"{name}-evaluate", "evaluate", *at, needs=(f"{name}-generate", "reference")
        )

    def point_folder(self, run: Run, point: int, guidance: float | None = None) -> Path:
        """Pictures and evaluation of a run after so many steps."""
        tail = "" if guidance is None else f"-guidance{guidance:g}"
        return self.folder(run) / f"step{point}{tail}"

    def _collection(self, name: str) -> Step:
        number, seed, shares = COLLECTIONS[name]
        return self._verb(
            f"ingest-{name}", "ingest", f"ingest.dataset.num_samples={number}",
            f"ingest.dataset.seed={seed}", f"ingest.dataset.split_shares={shares}",
            prepared=Path(f"{self.prepared}-{name}"),
        )  # fmt: skip

    def _verb(
        self,
        name: str,
        verb: str,
        *overrides: str,
        needs: tuple[str, ...] = (),
        prepared: Path | None = None,
    ) -> Step:
        paths = self._paths(prepared or self.prepared)
        command = (sys.executable, "-m", "arra_med", verb, str(RECIPE), *paths)
        return Step(name=name, command=(*command, *overrides, *self._scaled(verb)), needs=needs)

    def _paths(self, prepared: Path) -> list[str]:
        """Settings of every command: pictures and image tokenizer."""
        return [f"paths.prepared={prepared}", f"paths.tokenizer={self.output}/tokenizer"]

    def _scaled(self, what: str) -> list[str]:
        """What a trial in small adds to a command."""
        return [*self.arms.scale.get(what, ())]


def _script(name: str, script: str, *arguments: str, needs: tuple[str, ...]) -> Step:
    return Step(name=name, command=(sys.executable, str(HERE / script), *arguments), needs=needs)


@functools.cache  # reading settings takes a while, and steps are listed more than once
def _reads(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Steps of the setup that training reads from, by what its settings say."""
    settings = config.load(Settings, RECIPE, overrides)
    needs = ["tokenize"]
    assert settings.backbone is not None
    if settings.backbone.pretrained is not None:
        needs.append("text-first")
    if settings.alignment.enabled:
        assert settings.features is not None
        weights: Path = settings.features.teacher.options.weights
        teacher = next((name for name in TEACHERS if weights.name.endswith(f"-{name}")), None)
        if teacher is None:
            raise RequestError(
                f"features.teacher.weights={weights} names no teacher of the study: "
                f"its folder ends with {', '.join(f'-{name}' for name in TEACHERS)}"
            )
        needs.append(f"features-{teacher}-{settings.features.aggregation}")
    return tuple(needs)


def _export(run: Run, point: int) -> str:
    return f"{run.name}-export-{point}"
