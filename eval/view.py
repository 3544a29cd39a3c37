"""Is the view drawn that was asked for? A classifier fitted on real pictures says which it sees.

Only a prompt whose own words name a view asks for one. The same classifier on real test pictures
is the ceiling.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from arra_med.datasets.views import is_known, normalise_view
from arra_med.eval.consistency import USABLE_JUDGE
from arra_med.eval.estimators import weighted_mean
from arra_med.eval.formatting import decimal
from arra_med.eval.intervals import ClusteredBootstrap, Interval

LEAST_TRAINING = 10
"""Training pictures that a view needs to be told from the others."""
REGULARISATION = 0.1
"""C of the logistic regression on standardised features."""

_USABLE = (USABLE_JUDGE - 0.5) / 0.5
"""How far from chance to certainty a judge of findings must come on real pictures, and this one."""
_MOST_STEPS = 2000
_VIEW = re.compile(
    r"((?:[\w'/-]+\s+){1,4}?)(?:view|projection|(?:chest\s+)?(?:x-?ray|radiograph|film|cxr))\b",
    re.I,
)
_OPENING = re.compile(r"[,.:;\n]")
_REMARK = {"on", "in", "by", "seen"}


@dataclass(frozen=True, eq=False, kw_only=True)
class ViewPictures:
    """Some pictures in the classifier's feature space.

    Attributes:
        features: ``(N, D)`` finite.
        views: N names as in :data:`arra_med.datasets.views.VIEWS`: of a real picture its own, of a
            generated one the view asked for; ``None`` where there is none.
    """

    features: NDArray[np.float32]
    views: Sequence[str | None]

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.views):
            raise ValueError(
                f"expected (N, D) features of {len(self.views)} views, got {self.features.shape}"
            )


def view_asked(prompt: str) -> str | None:
    """The view that a prompt's words ask for: what stands before "view" or "chest x-ray".

    The words up to the first comma, colon, semicolon or full stop decide ("AP view chest x-ray
    image, …"), as further on a report may speak of its study's other pictures; if they name none,
    the whole text must agree on one. Words such as "best seen on the lateral view" ask for none.

    Returns:
        A name of :data:`arra_med.datasets.views.VIEWS`, or ``None``.
    """
    for text in (_OPENING.split(prompt, maxsplit=1)[0], prompt):
        named = {view for match in _VIEW.finditer(text) for view in _named(match[1].split())}
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def _named(words: Sequence[str]) -> set[str | None]:
    """The view that the last words name, as many of them as possible, and those joined to it.

    ``None`` is among them if the words say where something is seen.
    """
    for start in range(len(words)):
        view = normalise_view(" ".join(words[start:]))
        if view is not None and is_known(view):
            if _REMARK.intersection(word.lower() for word in words[max(0, start - 2) : start]):
                return {view, None}
            joined = start and words[start - 1].lower() in ("and", "or")
            return {view} | (_named(words[: start - 1]) if joined else set())
    return set()


def view_test(
    *,
    train: ViewPictures,
    real: ViewPictures,
    generated: ViewPictures,
    real_bootstrap: ClusteredBootstrap,
    generated_bootstrap: ClusteredBootstrap,
) -> tuple[dict[str, Any] | None, str | None]:
    """Fit on real training pictures, judge the generated and the real ones.

    A multinomial logistic regression on standardised features; every view weighs the same, so
    that a rare one is not overlooked.

    Args:
        train: real pictures of another split than ``real``.
        real: real pictures, the ceiling.
        generated: generated pictures with the views their prompts ask for.
        real_bootstrap: over the patients of ``real``.
        generated_bootstrap: over the patients of ``generated``'s prompts.

    Returns:
        ``n``, ``agreement``, ``agreement_real`` and ``by_view`` of the results file's section
        ``view``; or ``None`` and the reason why the test cannot be made. Views that are asked for
        and cannot be told apart stand in ``left_out_note``.
    """
    counts = Counter(view for view in train.views if view is not None)
    classes = sorted(view for view, count in counts.items() if count >= LEAST_TRAINING)
    asked = Counter(view for view in generated.views if view is not None)
    if not counts:
        return None, "no real training picture has a view"
    if len(classes) < 2:
        have = ", ".join(f"{view} {count}" for view, count in sorted(counts.items()))
        return None, f"needs {LEAST_TRAINING} real training pictures of two views (there: {have})"
    if not asked:
        return None, "no prompt names a view"
    if not any(view in classes for view in asked):
        return None, f"too few real training pictures of the views asked: {', '.join(asked)}"
    shown_real, shown = _classify(train, classes, [real.features, generated.features])
    hits, hits_real = _hits(generated, shown, classes), _hits(real, shown_real, classes)
    weak = _too_weak(real.views, hits_real, classes)
    if weak:
        return None, weak
    result: dict[str, Any] = {"n": sum(asked[view] for view in classes)}
    _put(result, "agreement", hits, generated_bootstrap)
    _put(result, "agreement_real", hits_real, real_bootstrap)
    result["by_view"] = []
    for view in classes:
        if not asked[view]:
            continue
        of_view, of_view_real = _equal(generated.views, view), _equal(real.views, view)
        row: dict[str, Any] = {
            "view": view,
            "n": asked[view],
            "shown_as": dict(sorted(Counter(shown[of_view].tolist()).items())),
        }
        _put(row, "agreement", np.where(of_view, hits, np.nan), generated_bootstrap)
        _put(row, "agreement_real", np.where(of_view_real, hits_real, np.nan), real_bootstrap)
        result["by_view"].append(row)
    left_out = {view: count for view, count in sorted(asked.items()) if view not in classes}
    if left_out:
        result["left_out_note"] = "left out, too few real training pictures: " + ", ".join(
            f"{view} ({count} asked, {counts[view]} training)" for view, count in left_out.items()
        )
    return result, None


def _classify(
    train: ViewPictures, classes: Sequence[str], others: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.str_]]:
    """The view that each picture of ``others`` shows."""
    used = np.array([view in classes for view in train.views])
    features = train.features[used].astype(np.float64)
    mean, std = features.mean(axis=0), features.std(axis=0)
    std[std < 1e-6] = 1.0  # a feature that never varies says nothing
    model = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=_MOST_STEPS)
    model.fit((features - mean) / std, [view for view in train.views if view in classes])
    return [np.asarray(model.predict((other - mean) / std), dtype=np.str_) for other in others]


def _equal(views: Sequence[str | None], view: str) -> NDArray[np.bool_]:
    return np.array([other == view for other in views], dtype=bool)


def _hits(
    pictures: ViewPictures, shown: NDArray[np.str_], classes: Sequence[str]
) -> NDArray[np.float64]:
    """``(N,)`` 1 where the view is shown, 0 where another is, NaN where none is known."""
    return np.array(
        [
            float(view == seen) if view in classes else np.nan
            for view, seen in zip(pictures.views, shown, strict=True)
        ]
    )


def _too_weak(
    views: Sequence[str | None], hits: NDArray[np.float64], classes: Sequence[str]
) -> str | None:
    """Why the classifier's word counts for nothing, or ``None``.

    The mean over views counts: seeing one and the same view in every picture, it is chance.
    """
    there = [view for view in classes if view in views]
    if not there:
        return None
    value = float(np.mean([hits[_equal(views, view)].mean() for view in there]))
    chance = 1 / max(2, len(there))
    needed = chance + (1 - chance) * _USABLE
    if value >= needed:
        return None
    return (
        "the classifier does not know the views of real pictures: mean over views "
        f"{decimal(value)}, chance is {decimal(chance)}, and {decimal(needed)} is needed"
    )


def _put(
    result: dict[str, Any], name: str, hits: NDArray[np.float64], bootstrap: ClusteredBootstrap
) -> None:
    count = int(np.isfinite(hits).sum())
    interval = Interval(None, None, None, "no picture of this view")
    if count:
        interval = bootstrap.interval(weighted_mean(hits))
    interval.write(result, name, n=count)
