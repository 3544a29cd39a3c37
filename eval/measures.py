"""The results file's sections ``fidelity`` and ``similarity``, each value beside its reference."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arra_med.eval.cohort import Cohort
from arra_med.eval.fidelity import frechet_distance, kid, prdc
from arra_med.eval.intervals import ClusteredBootstrap, Interval, pair_mean, weighted_mean
from arra_med.eval.similarity import diversity, other_patients, paired, random_pairs
from arra_med.images import decode_png
from arra_med.ms_ssim import method
from arra_med.schema import SPLITS
from arra_med.store import PreparedFolder

NEIGHBOURS = 5
"""k of precision, recall, density and coverage; :data:`OTHER_NEIGHBOURS` are given beside it."""
OTHER_NEIGHBOURS = (3, 10)
REFERENCE_DRAWS = 5
"""Size-matched real sets over which the reference is averaged."""
MOST_PAIRS = 500
"""Pairs of pictures whose MS-SSIM is averaged for diversity."""

_PRDC = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Real pictures that the real pictures of the evaluated split are set against.

    Attributes:
        split: where they come from.
        pictures: PNG bytes.
        size: how many are compared at once: as many as generated, or all there are.
    """

    split: str
    pictures: list[bytes]
    size: int


def real_reference(
    prepared: PreparedFolder, cohort: Cohort, generator: np.random.Generator
) -> Reference | None:
    """Real pictures of the largest other split, enough for a few size-matched draws."""
    keys_of: dict[str, list[str]] = {split: [] for split in SPLITS if split != cohort.split}
    splits = prepared.samples["split"].to_pylist()
    for key, split in zip(prepared.keys, splits, strict=True):
        if split in keys_of:
            keys_of[split].append(key)
    split = max(keys_of, key=lambda name: len(keys_of[name]))
    keys = keys_of[split]
    if not keys:
        return None
    wanted = min(len(keys), REFERENCE_DRAWS * len(cohort.pictures))
    chosen = [keys[i] for i in np.sort(generator.permutation(len(keys))[:wanted])]
    pngs = prepared.images(chosen)
    return Reference(
        split=split,
        pictures=[pngs[key] for key in chosen],
        size=min(len(chosen), len(cohort.pictures)),
    )


def fidelity_row(
    real: NDArray[np.float32],
    generated: NDArray[np.float32],
    reference: NDArray[np.float32] | None,
    *,
    reference_size: int,
    bootstrap: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """All distances of one extractor.

    Args:
        real: ``(N, D)`` features of the evaluated split.
        generated: ``(M, D)``.
        reference: ``(R, D)`` of real pictures of another split.
        reference_size: how many of those are drawn to match ``generated`` in number.
        bootstrap: resamples of KID's interval.
        generator: draws references and resamples.
    """
    row: dict[str, Any] = {
        "dimension": real.shape[1],
        "n_real": len(real),
        "n_generated": len(generated),
    }
    row |= _distances(real, generated, bootstrap, generator)
    row["prdc_k"] = NEIGHBOURS
    row["prdc_other_k"] = [
        {"k": k, **asdict(prdc(real, generated, k))}
        for k in OTHER_NEIGHBOURS
        if min(len(real), len(generated)) > k
    ]
    if reference is None:
        note = "the prepared folder has no other split to take real pictures from"
        names = ("fd_reference", "kid_reference", "prdc_reference")
        return row | dict.fromkeys(names) | {f"{name}_note": note for name in names}
    draws = []
    for _ in range(REFERENCE_DRAWS if len(reference) > reference_size else 1):
        drawn = reference[generator.permutation(len(reference))[:reference_size]]
        draws.append(_distances(real, drawn, bootstrap, generator))
    row["reference_size"] = reference_size
    row["fd_reference"] = _mean([draw["fd"] for draw in draws])
    row["fd_reference_note"] = draws[0]["fd_note"]
    row["kid_reference"] = draws[0]["kid"]
    row["kid_reference_note"] = draws[0].get("kid_note", "")
    row["prdc_reference"] = {name: _mean([draw[name] for draw in draws]) for name in _PRDC}
    return row


def similarity(
    cohort: Cohort,
    bootstrap: ClusteredBootstrap,
    *,
    replicates: int,
    batch_size: int,
    device: torch.device,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """MS-SSIM, paired and as diversity, generated and real.

    Args:
        cohort: the pictures.
        bootstrap: over the patients of ``cohort.generated``.
        replicates: resamples for the real set's interval.
        batch_size: pairs at once.
        device: where to run.
        generator: draws other patients and pairs.
    """
    own = [cohort.real[row["key"]] for row in cohort.generated]
    scores = paired(cohort.pictures, own, batch_size=batch_size, device=device)
    result: dict[str, Any] = {
        "method": method(decode_png(cohort.pictures[0]).shape[0]),
    }
    _put(result, "paired", bootstrap.interval(weighted_mean(scores)), n=len(scores))
    others = other_patients(cohort.patients, generator)
    if others is None:
        result |= {"paired_floor": None, "paired_floor_note": "all prompts are of one patient"}
    else:
        foreign = [own[i] for i in others]
        floor = paired(cohort.pictures, foreign, batch_size=batch_size, device=device)
        _put(result, "paired_floor", bootstrap.interval(weighted_mean(floor)), n=len(floor))
    prompts = cohort.prompts
    patients = [str(sample["patient_id"]) for sample in prompts]
    real_bootstrap = ClusteredBootstrap(patients, replicates=replicates, generator=generator)
    real = [cohort.real[sample["key"]] for sample in prompts]
    for name, pictures, groups, resampler in (
        ("diversity_generated", cohort.pictures, cohort.patients, bootstrap),
        ("diversity_real", real, patients, real_bootstrap),
    ):
        pairs = random_pairs(groups, MOST_PAIRS, generator)
        if not len(pairs):
            result |= {name: None, f"{name}_note": "needs pictures of at least two patients"}
            continue
        values = diversity(pictures, pairs, batch_size=batch_size, device=device)
        interval = resampler.interval(pair_mean(pairs, values))
        _put(result, name, interval, n=len(pictures), pairs=len(pairs))
    return result


def _distances(
    real: NDArray[np.float32],
    other: NDArray[np.float32],
    bootstrap: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    result: dict[str, Any] = {"fd": None, "fd_note": ""}
    fewest, dimension = min(len(real), len(other)), real.shape[1]
    if fewest >= 2 * dimension:
        result["fd"] = frechet_distance(real, other)
    else:
        result["fd_note"] = (
            f"not given: {fewest} pictures are fewer than twice the {dimension} features, and the "
            "distance would be mostly bias"
        )
    if fewest >= 2:
        result["kid"] = asdict(kid(real, other, generator=generator, bootstrap=bootstrap))
    else:
        result |= {"kid": None, "kid_note": "needs at least two pictures in each set"}
    if fewest > NEIGHBOURS:
        result |= asdict(prdc(real, other, NEIGHBOURS))
    else:
        note = f"needs more than {NEIGHBOURS} pictures in each set"
        result |= dict.fromkeys(_PRDC) | {f"{name}_note": note for name in _PRDC}
    return result


def _put(result: dict[str, Any], name: str, interval: Interval, **counts: int) -> None:
    result[name] = {**interval.to_json(), **counts}
    if interval.note:
        result[f"{name}_note"] = interval.note


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
