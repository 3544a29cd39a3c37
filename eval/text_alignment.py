"""Do pictures fit their prompts? Cosines of an image-text encoder between a floor and a ceiling.

A CLIP score alone says nothing: encoders give some similarity to any chest film and any report.
Here 0 is what the same pictures get with the prompts of other patients, and 1 what real pictures
get with their own. All of it is exact: the floor is the mean over *all* prompts of other patients,
and the retrieval the expectation over all draws of nine of them, so nothing depends on a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from arra_med.eval.estimators import Measure, difference, weighted_mean
from arra_med.eval.intervals import ClusteredBootstrap

Array = NDArray[np.float64]
Vectors = NDArray[np.float32] | NDArray[np.float64]

RETRIEVAL_OF = 10
"""Prompts among which a picture's own is to be found: 10 % are found by chance."""

_ROWS_AT_ONCE = 1024  # rows of a matrix of similarities held in memory together
_TIE = 1e-6  # texts that a tower reads alike need not give cosines equal to the last bit


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptedPictures:
    """Pictures with their prompts in the space of an image-text encoder, N rows of each.

    Attributes:
        generated: ``(N, D)`` vectors of generated pictures.
        real: ``(N, D)`` vectors of the real pictures of the same prompts; a prompt drawn several
            times repeats its own.
        texts: ``(N, D)`` vectors of the prompts, likewise.
        prompts: the prompts.
        patients: whose they are.

    Raises:
        ValueError: if shapes differ, or a vector is not finite or of length 0.
    """

    generated: Vectors
    real: Vectors
    texts: Vectors
    prompts: Sequence[str]
    patients: Sequence[str]

    def __post_init__(self) -> None:
        shapes = {name: getattr(self, name).shape for name in ("generated", "real", "texts")}
        counts = {len(self.prompts), len(self.patients), len(self.texts)}
        if len(set(shapes.values())) > 1 or self.texts.ndim != 2 or len(counts) > 1:
            raise ValueError(
                f"expected (N, D) vectors, prompts and patients, N of each, got {shapes}, "
                f"{len(self.prompts)} prompts and {len(self.patients)} patients"
            )
        if not len(self.prompts):
            raise ValueError("there is no picture")


def text_alignment(
    pairs: PromptedPictures, bootstrap: ClusteredBootstrap, *, truncated: int, context: int | None
) -> dict[str, Any]:
    """What one encoder says, as a row of the results file's section ``text``.

    Args:
        pairs: vectors of the pictures and of their prompts.
        bootstrap: over the patients of ``pairs``.
        truncated: prompts that were longer than the encoder reads.
        context: most tokens it reads.

    Returns:
        JSON: ``score``, mean cosine of generated pictures and their prompts; ``floor``, of the same
        pictures and the prompts of other patients; ``ceiling``, of real pictures and their own
        prompts; ``normalised``, (score - floor) / (ceiling - floor), unless the encoder cannot tell
        real pairs from shuffled ones; ``retrieval`` and ``retrieval_real``, the share of pictures
        whose own prompt has a higher cosine than nine different ones of other patients, a tie with
        k of them counting 1 / (k + 1).
    """
    generated, real, texts = (_unit(v) for v in (pairs.generated, pairs.real, pairs.texts))
    n = len(texts)
    score = weighted_mean(np.einsum("nd,nd->n", generated, texts))
    ceiling = weighted_mean(np.einsum("nd,nd->n", real, texts))
    row: dict[str, Any] = {
        "n": n,
        "context": context,
        "truncated": truncated,
        "score": bootstrap.interval(score).estimate(n=n),
        "ceiling": bootstrap.interval(ceiling).estimate(n=n),
    }
    row |= _found("retrieval", own_first(generated, texts, pairs), bootstrap)
    row |= _found("retrieval_real", own_first(real, texts, pairs), bootstrap)
    row["retrieval_of"] = RETRIEVAL_OF
    if len(set(pairs.patients)) < 2:
        note = "needs prompts of at least two patients"
        return row | {
            "floor": None, "floor_note": note, "normalised": None, "normalised_note": note
        }  # fmt: skip
    floor, floor_real = (shuffled(vectors, texts, pairs.patients) for vectors in (generated, real))
    row["floor"] = bootstrap.interval(floor).estimate(n=n)
    normalised: dict[str, Any] | None = None
    note = _cannot_tell(ceiling, (floor_real, floor), bootstrap)
    if not note:
        share = bootstrap.interval(_normalised(score, floor, ceiling))
        normalised, note = share.estimate(n=n), share.note
    return row | {"normalised": normalised, "normalised_note": note}


def shuffled(images: Array, texts: Array, patients: Sequence[str]) -> Measure:
    """Mean cosine of pictures and the prompts of other patients, over all such pairs.

    With weights w the mean over pairs (i, j) of different patients weighs each w_i w_j: the
    product of the summed vectors, less the pairs within each patient. Pictures of one patient must
    have one weight, as in :class:`~arra_med.eval.intervals.ClusteredBootstrap`.

    Args:
        images: ``(N, D)`` of length 1.
        texts: ``(N, D)`` of length 1.
        patients: whose each row is; at least two.
    """
    _, of, size = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    sums = np.zeros((2, len(size), images.shape[1]))
    for vectors, total in zip((images, texts), sums, strict=True):
        np.add.at(total, of, vectors)
    within = np.einsum("pd,pd->p", *sums)[of] / size[of]  # of each picture, its patient's share
    per_picture = size[of].astype(np.float64)

    def compute(weights: Array) -> Array:
        squares = np.square(weights)
        total = np.einsum("rd,rd->r", weights @ images, weights @ texts) - squares @ within
        count = np.square(weights.sum(axis=1)) - squares @ per_picture
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(count > 0, total / count, np.nan))

    return Measure(compute=compute, kind="other", groups=(np.ones(len(images)),))


def own_first(images: Array, texts: Array, pairs: PromptedPictures) -> Array:
    """Probability that each picture's own prompt beats nine others drawn at random.

    The nine have different texts, all different from its own, and are none of its patient's: two
    reports that say the same are no error. Text is compared but for case and white space.

    Args:
        images: ``(N, D)`` of length 1.
        texts: ``(N, D)`` of length 1.
        pairs: prompts and patients.

    Returns:
        ``(N,)`` in [0, 1]; NaN where fewer than nine texts are left to draw from.
    """
    words = [" ".join(prompt.casefold().split()) for prompt in pairs.prompts]
    _, first, own = np.unique(np.asarray(words), return_index=True, return_inverse=True)
    _, patient = np.unique(np.asarray(pairs.patients), return_inverse=True)
    theirs = np.zeros((patient.max() + 1, len(first)), dtype=bool)
    theirs[patient, own] = True
    candidates = texts[first]
    below, ties, others = (np.empty(len(images)) for _ in range(3))
    for start in range(0, len(images), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        cosines = images[rows] @ candidates.T
        lead = np.take_along_axis(cosines, own[rows, None], axis=1) - cosines
        allowed = ~theirs[patient[rows]]
        below[rows] = (allowed & (lead > _TIE)).sum(axis=1)
        ties[rows] = (allowed & (np.abs(lead) <= _TIE)).sum(axis=1)
        others[rows] = allowed.sum(axis=1)
    drawn = RETRIEVAL_OF - 1
    # a tie is decided by lot: of k that tie, u = 0 … k win with the same probability, and
    # C(b, 9) + … + C(b + k, 9) = C(b + k + 1, 10) - C(b, 10)
    wins = (comb(below + ties + 1, drawn + 1) - comb(below, drawn + 1)) / (ties + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(others >= drawn, wins / comb(others, drawn), np.nan))


def _unit(vectors: Vectors) -> Array:
    array = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(array, axis=1, keepdims=True)
    if not np.isfinite(length).all() or (length == 0).any():
        raise ValueError("expected finite vectors, none of length 0: a cosine needs a direction")
    return np.asarray(array / length)


def _normalised(score: Measure, floor: Measure, ceiling: Measure) -> Measure:
    def compute(weights: Array) -> Array:
        low = floor(weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((score(weights) - low) / (ceiling(weights) - low))

    return Measure(compute=compute, kind="other", groups=score.groups)


def _cannot_tell(ceiling: Measure, floors: Sequence[Measure], bootstrap: ClusteredBootstrap) -> str:
    """Why the scale from floor to ceiling means nothing, if so.

    Real pictures must fit their own prompts better than shuffled ones, and better than generated
    pictures fit shuffled ones.
    """
    for floor, whose in zip(floors, ("real", "generated"), strict=True):
        gap = bootstrap.interval(difference(ceiling, floor))
        if gap.value is None or gap.low is None or gap.low <= 0:
            ends = "" if gap.low is None else f", 95 % interval {gap.low:.3f} to {gap.high:.3f}"
            value = "" if gap.value is None else f" ({gap.value:.3f}{ends})"
            return (
                "this encoder cannot tell: real pictures with their own prompts do not clearly "
                f"exceed {whose} pictures with shuffled ones{value}"
            )
    return ""


def _found(name: str, wins: Array, bootstrap: ClusteredBootstrap) -> dict[str, Any]:
    known = int(np.isfinite(wins).sum())
    if not known:
        note = f"needs {RETRIEVAL_OF} different prompts of different patients"
        return {name: None, f"{name}_note": note}
    return {name: bootstrap.interval(weighted_mean(wins)).estimate(n=known)}
