"""What the study asks: sizes, comparisons of arms, and what the paper compared."""

from dataclasses import dataclass
from typing import NamedTuple

from analysis import Contrast
from records import Arm, Study

SIZES = {
    "small": "Small model",
    "large": "Large model",
    "longer": "Small model, trained twice as long",
}
PAIR = ("none", "hybnext")
"""The two main arms."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What some arms are compared for.

    Attributes:
        slug: names its figure.
        title: in words.
        arms: arms and their labels, in the table's order.
        contrasts: the differences that answer it.
    """

    slug: str
    title: str
    arms: tuple[tuple[Arm, str], ...]
    contrasts: tuple[Contrast, ...]


def _small(*arms: tuple[str, str]) -> tuple[tuple[Arm, str], ...]:
    return tuple((("small", arm), f"`{arm}`: {label}") for arm, label in arms)


def _less(arm: str, other: str, size: str = "small") -> Contrast:
    where = "" if size == "small" else f", {size}"
    return Contrast(
        label=f"`{arm}` − `{other}`{where}", plus=((size, arm),), minus=((size, other),)
    )


def _gain(first: tuple[str, str], second: tuple[str, str], sizes: tuple[str, str]) -> Contrast:
    """How much more the aligned arm of ``first`` differs from its unaligned one than of ``second``.

    Each pair is (aligned, unaligned), and each size belongs to one.
    """
    (aligned, plain), (aligned_2, plain_2) = first, second
    names = [f"(`{a}` − `{b}`)" for a, b in (first, second)]
    if sizes[0] != sizes[1]:
        names = [f"{name} {size}" for name, size in zip(names, sizes, strict=True)]
    return Contrast(
        label=f"{names[0]} − {names[1]}",
        plus=((sizes[0], aligned), (sizes[1], plain_2)),
        minus=((sizes[0], plain), (sizes[1], aligned_2)),
    )


def _pairs(*sizes: str) -> tuple[tuple[Arm, str], ...]:
    """The two main arms at some sizes."""
    return tuple(((size, arm), f"`{arm}`, {size}") for size in sizes for arm in PAIR)


_PLAIN = ("none", "no alignment")
_ALIGNED_FIRST = PAIR[::-1]
MAIN = Question(
    slug="main",
    title="Does alignment help?",
    arms=_pairs("small", "large"),
    contrasts=(_less(*_ALIGNED_FIRST, "small"), _less(*_ALIGNED_FIRST, "large")),
)
QUESTIONS = (
    Question(
        slug="span",
        title="Which positions are aligned: all image codes, or one token before them?",
        arms=_small(_PLAIN, ("rep", "one token"), ("hybnext", "every code")),
        contrasts=(_less("rep", "none"), _less("hybnext", "none"), _less("rep", "hybnext")),
    ),
    Question(
        slug="layer",
        title="At which layer?",
        arms=_small(
            _PLAIN, ("hybnext", "first"), ("layer-middle", "middle"), ("layer-late", "late")
        ),
        contrasts=(
            _less("layer-middle", "hybnext"),
            _less("layer-middle", "none"),
            _less("layer-late", "hybnext"),
            _less("layer-late", "none"),
            _less("layer-late", "layer-middle"),
        ),
    ),
    Question(
        slug="aggregation",
        title="Which vector of the teacher: its class token, or the mean over patches?",
        arms=_small(_PLAIN, ("hybnext", "class token"), ("mean", "mean")),
        contrasts=(_less("mean", "hybnext"),),
    ),
    Question(
        slug="weight",
        title="How heavy is the alignment term (λ)?",
        arms=_small(
            ("none", "λ 0"),
            ("lambda-0.1", "λ 0.1"),
            ("lambda-0.5", "λ 0.5"),
            ("hybnext", "λ 1"),
            ("lambda-2", "λ 2"),
        ),
        contrasts=(
            _less("lambda-0.1", "none"),
            _less("lambda-0.1", "hybnext"),
            _less("lambda-0.5", "hybnext"),
            _less("lambda-2", "hybnext"),
        ),
    ),
    Question(
        slug="objective",
        title="Cosine or squared distance?",
        arms=_small(_PLAIN, ("hybnext", "cosine"), ("mse", "squared distance")),
        contrasts=(_less("mse", "hybnext"),),
    ),
    Question(
        slug="teacher",
        title="What must the teacher have learned from: text, pictures alone, or known findings?",
        arms=_small(
            _PLAIN,
            ("hybnext", "text"),
            ("vision-only", "pictures alone"),
            ("supervised", "known findings"),
        ),
        contrasts=(
            _less("vision-only", "hybnext"),
            _less("vision-only", "none"),
            _less("supervised", "hybnext"),
            _less("supervised", "none"),
        ),
    ),
    Question(
        slug="start",
        title="Does it matter where training starts: at random, or from a model of text?",
        arms=_small(
            ("none", "random, no alignment"),
            ("hybnext", "random, aligned"),
            ("text-first-none", "text, no alignment"),
            ("text-first-hybnext", "text, aligned"),
            ("text-first-middle", "text, aligned at the middle layer"),
        ),
        contrasts=(
            _less("text-first-hybnext", "text-first-none"),
            _less("text-first-middle", "text-first-none"),
            _less("text-first-middle", "text-first-hybnext"),
            _gain(("text-first-hybnext", "text-first-none"), _ALIGNED_FIRST, ("small", "small")),
            _gain(
                ("text-first-middle", "text-first-none"),
                ("layer-middle", "none"),
                ("small", "small"),
            ),
        ),
    ),
    Question(
        slug="size",
        title="Does alignment help a larger model as much?",
        arms=MAIN.arms,
        contrasts=(*MAIN.contrasts, _gain(_ALIGNED_FIRST, _ALIGNED_FIRST, ("large", "small"))),
    ),
    Question(
        slug="budget",
        title="Does the difference last when training goes on?",
        arms=_pairs("small", "longer"),
        contrasts=(
            _less(*_ALIGNED_FIRST, "small"),
            _less(*_ALIGNED_FIRST, "longer"),
            _gain(_ALIGNED_FIRST, _ALIGNED_FIRST, ("longer", "small")),
        ),
    ),
)
NUMBERS = {"main": 1, "curves": 2} | {q.slug: n for n, q in enumerate(QUESTIONS, start=3)}
NUMBERS["inside"] = len(NUMBERS) + 1


def was_run(study: Study, question: Question) -> bool:
    """Whether there is a run of an arm that a question asks about, beyond the two main ones."""
    known = {("small", arm) for arm in PAIR}
    return any(study.of(arm) for arm, _ in question.arms if arm not in known)


class Theirs(NamedTuple):
    """A comparison in the paper (arXiv 2503.07334 v4) and what asks the same here.

    Attributes:
        table: of the paper.
        compares: what against what.
        values: its two figures, FID unless ``measure`` says other; ``None`` if none is noted.
        percent: by how much the first is below the second, where the paper says that alone.
        question: slug of ours; or, without a contrast, why nothing here asks it.
        contrast: ours.
        measure: ours.
    """

    table: str
    compares: str
    values: tuple[float, float] | None
    question: str
    contrast: Contrast | None = None
    measure: str = "fd"
    percent: float | None = None

    @property
    def lower(self) -> bool | None:
        """Whether the first is below the second; ``None`` if the paper's figures are not noted."""
        if self.values is not None:
            return self.values[0] < self.values[1]
        return None if self.percent is None else self.percent > 0


_UNALIGNED = "ARRA, Chameleon without alignment"
_TEXT_FIRST = _less("text-first-hybnext", "text-first-none")
_ADAPT = "no start from a model that draws already"
PAPER = (
    Theirs("MIMIC-CXR, main", _UNALIGNED, (5.30, 7.11), "start", _TEXT_FIRST),
    Theirs("the same, CLIP-Score", _UNALIGNED, (0.4532, 0.4460), "start", _TEXT_FIRST,
           "text_alignment"),
    Theirs("`base`, from random weights: ImageNet", "with, without alignment", None, "main",
           _less(*_ALIGNED_FIRST), percent=16.6),
    Theirs("the same, LAION-COCO", "with, without alignment", None, "main",
           _less(*_ALIGNED_FIRST), percent=12.0),
    Theirs("MIMIC-CXR, main: `adapt`", "with, without alignment", (4.15, 5.10), _ADAPT),
    Theirs("DeepEyeNet", _UNALIGNED, (35.01, 38.37), "no second kind of picture"),
    Theirs("DeepEyeNet: `adapt`", "ARRA-Adapt, ARRA", (34.70, 35.01), _ADAPT),
    Theirs("REP or HYBNEXT", "REP, HYBNEXT", (6.26, 5.30), "span", _less("rep", "hybnext")),
    Theirs("the same, `adapt`", "REP, HYBNEXT", (4.85, 4.15), _ADAPT),
    Theirs("aggregation", "mean, class token", (6.56, 5.30), "aggregation",
           _less("mean", "hybnext")),
    Theirs("aggregation", "both, class token", (5.93, 5.30), "both together are not tried"),
    Theirs("teacher", "MedSAM (no text), BioMedCLIP", (6.54, 5.30), "teacher",
           _less("vision-only", "hybnext")),
    Theirs("teacher", "CLIP-L, BioMedCLIP", (5.16, 5.30), "no teacher from other pictures"),
    Theirs("teacher: `adapt`", "MedSAM (no text), BioMedCLIP", (4.08, 4.15), _ADAPT),
    Theirs("teacher: `adapt`", "CLIP-L, BioMedCLIP", (4.63, 4.15), _ADAPT),
    Theirs("projector", "pool, MLP", (5.37, 5.30), "one projector"),
    Theirs("objective", "MSE, cosine", (5.32, 5.30), "objective", _less("mse", "hybnext")),
    Theirs("λ", "0.5, 1", (6.22, 5.30), "weight", _less("lambda-0.5", "hybnext")),
    Theirs("λ", "0.8, 1", (5.38, 5.30), "not tried"),
    Theirs("λ", "1.5, 1", (5.87, 5.30), "not tried"),
    Theirs("λ", "2, 1", (6.12, 5.30), "weight", _less("lambda-2", "hybnext")),
    Theirs("layer", "5, 1", (6.21, 5.30), "not tried"),
    Theirs("layer", "20, 1", (5.70, 5.30), "layer", _less("layer-middle", "hybnext")),
    Theirs("layer", "30, 1", (5.04, 5.30), "not tried"),
    Theirs("layer", "31, 1", (5.71, 5.30), "layer", _less("layer-late", "hybnext")),
    Theirs("resolution 256", "with, without alignment", (6.11, 9.42), "one resolution"),
)  # fmt: skip
