"""The results file's sections ``fidelity`` and ``similarity``, each value beside its reference."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arra_med.eval.cohort import Cohort
from arra_med.eval.detail import fine_detail
from arra_med.eval.estimators import Array, pair_mean, ratio, weighted_mean
from arra_med.eval.fidelity import (
    NEIGHBOURS,
    Fidelity,
    GroupFidelity,
    RealReference,
    by_group,
    fidelity,
    real_reference,
)
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.similarity import (
    diversity,
    feature_diversity,
    other_patients,
    paired,
    paired_feature_distance,
    random_pairs,
    same_prompt_pairs,
)
from arra_med.images import decode_png
from arra_med.ms_ssim import method
from arra_med.schema import PRESENT

MOST_PAIRS = 500
"""Pairs of pictures whose likeness is averaged for diversity."""

_PRDC = ("precision", "recall", "density", "coverage")
_ONE_PATIENT = "needs pictures of at least two patients"

Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Vectors:
    """One extractor's features.

    Attributes:
        real: ``(N, D)`` of ``cohort.samples``.
        generated: ``(M, D)`` of ``cohort.generated``.
        pool: ``(P, D)`` of real pictures of other patients, for references; may be empty.
        pool_samples: P of them.
    """

    real: Features
    generated: Features
    pool: Features
    pool_samples: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Resampling:
    """What the intervals of one cohort share.

    Attributes:
        generated: over the patients of ``cohort.generated``.
        real: over those of ``cohort.samples``.
        replicates: resamples of intervals that draw pictures.
    """

    generated: ClusteredBootstrap
    real: ClusteredBootstrap
    replicates: int

    @classmethod
    def of(cls, cohort: Cohort, replicates: int, generator: np.random.Generator) -> "Resampling":
        """Resamples of a cohort's patients."""
        real = [str(sample["patient_id"]) for sample in cohort.samples]
        return cls(
            generated=ClusteredBootstrap(
                cohort.patients, replicates=replicates, generator=generator
            ),
            real=ClusteredBootstrap(real, replicates=replicates, generator=generator),
            replicates=replicates,
        )


def fidelity_row(
    vectors: Vectors,
    cohort: Cohort,
    resampling: Resampling,
    *,
    forced: bool,
    device: torch.device,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """All distances of one extractor, with its feature diversity and likeness.

    Args:
        vectors: its features.
        cohort: whose they are.
        resampling: of the cohort.
        forced: give Fréchet distances below two pictures a dimension too.
        device: where distances are computed.
        generator: draws references, pairs and resamples.
    """
    patients = _patients(cohort.samples)
    of_pool = _patients(vectors.pool_samples)
    distances = fidelity(
        vectors.real,
        vectors.generated,
        generator=generator,
        real_clusters=patients,
        generated_clusters=cohort.patients,
        forced=forced,
        bootstrap=resampling.replicates,
        device=device,
    )
    reference = None
    if len(vectors.pool) or len(set(patients)) > 1:
        reference = real_reference(
            vectors.real,
            len(vectors.generated),
            generator=generator,
            pool=vectors.pool if len(vectors.pool) else None,
            clusters=patients,
            pool_clusters=of_pool,
            forced=forced,
            device=device,
        )
    groups = by_group(
        vectors.real,
        vectors.generated,
        _groups(cohort),
        generator=generator,
        clusters=patients,
        generated_clusters=cohort.patients,
        pool=vectors.pool,
        pool_groups=_groups_of(vectors.pool_samples),
        pool_clusters=of_pool,
        bootstrap=resampling.replicates,
    )
    return {
        **_distances(distances),
        **_reference(reference),
        "groups": [_group(group) for group in groups],
        **_likeness(vectors, cohort, resampling, generator),
    }


def similarity(
    cohort: Cohort,
    resampling: Resampling,
    *,
    likeness: Array,
    batch_size: int,
    device: torch.device,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """MS-SSIM, paired and as diversity, and fine detail beside the real pictures of the prompts.

    Args:
        cohort: the pictures.
        resampling: of the cohort.
        likeness: ``(N,)`` MS-SSIM of each generated picture with the real one of its prompt.
        batch_size: pairs at once.
        device: where to run.
        generator: draws other patients and pairs.
    """
    own = [cohort.real[row["key"]] for row in cohort.generated]
    result: dict[str, Any] = {"method": method(decode_png(cohort.pictures[0]).shape[0])}
    resampling.generated.interval(weighted_mean(likeness)).write(result, "paired", n=len(likeness))
    others = other_patients(cohort.patients, generator)
    if others is None:
        result |= {"paired_floor": None, "paired_floor_note": "all prompts are of one patient"}
    else:
        foreign = [own[i] for i in others]
        floor = paired(cohort.pictures, foreign, batch_size=batch_size, device=device)
        interval = resampling.generated.interval(weighted_mean(floor))
        interval.write(result, "paired_floor", n=len(floor))
    made, genuine = fine_detail(cohort.pictures), fine_detail(own)
    detail = resampling.generated.interval(ratio(made, genuine, kind="other"))
    detail.write(result, "detail_share", n=len(made))
    real = [cohort.real[sample["key"]] for sample in cohort.samples]
    patients = [str(sample["patient_id"]) for sample in cohort.samples]
    across = random_pairs(cohort.patients, MOST_PAIRS, generator)
    across_real = random_pairs(patients, MOST_PAIRS, generator)
    within = same_prompt_pairs(cohort.keys, MOST_PAIRS, generator)
    mine, one = resampling.generated, "one picture was drawn of each prompt"
    for name, pictures, pairs, resampler, without in (
        ("diversity_generated", cohort.pictures, across, mine, _ONE_PATIENT),
        ("diversity_real", real, across_real, resampling.real, _ONE_PATIENT),
        ("same_prompt_generated", cohort.pictures, within, mine, one),
    ):
        if not len(pairs):
            result |= {name: None, f"{name}_note": without}
            continue
        values = diversity(pictures, pairs, batch_size=batch_size, device=device)
        interval = resampler.interval(pair_mean(pairs, values))
        interval.write(result, name, n=len(pictures), pairs=len(pairs))
    return result


def _groups(cohort: Cohort) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Each view, and each finding that is asked for, as masks of real and generated pictures."""
    real, made = _groups_of(cohort.samples), _groups_of(cohort.sample_of)
    none = np.zeros(len(cohort.generated), bool)
    pairs = {name: (mask, made.get(name, none)) for name, mask in real.items()}
    return {name: pair for name, pair in pairs.items() if pair[0].any() or pair[1].any()}


def _groups_of(samples: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.bool_]]:
    """Each view of some samples, and each finding, as masks."""
    views = sorted({str(sample["view"]) for sample in samples if sample["view"]})
    findings = samples[0]["labels"] if samples else ()
    return {
        **{f"view {view}": np.array([s["view"] == view for s in samples]) for view in views},
        **{
            str(finding): np.array([s["labels"][finding] == PRESENT for s in samples])
            for finding in findings
        },
    }


def _patients(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(sample["patient_id"]) for sample in samples]


def _distances(found: Fidelity) -> dict[str, Any]:
    main, *others = NEIGHBOURS
    row: dict[str, Any] = {
        "dimension": found.dimension,
        "n_real": found.n_real,
        "n_generated": found.n_generated,
        "fd": found.fd,
        "fd_infinity": _with_ends(found.fd_infinity),
        "fd_note": found.fd_note,
        "kid": _with_ends(found.kid),
        "kid_note": found.kid_note,
        "prdc_k": main,
        "prdc_other_k": [{"k": k, **asdict(found.prdc[k])} for k in others if k in found.prdc],
    }
    if main in found.prdc:
        return row | asdict(found.prdc[main])
    return row | dict.fromkeys(_PRDC) | {f"{name}_note": found.prdc_note for name in _PRDC}


def _reference(reference: RealReference | None) -> dict[str, Any]:
    names = ("fd_reference", "kid_reference", "prdc_reference")
    if reference is None:
        note = "all real pictures are of one patient"
        row: dict[str, Any] = dict.fromkeys(names) | {f"{name}_note": note for name in names}
        return {"reference_size": 0, **row}
    shares = {name: reference.mean(name) for name in _PRDC}
    known = any(value is not None for value in shares.values())
    return {
        "reference_size": reference.size,
        "fd_reference": reference.mean("fd"),
        "fd_reference_note": reference.note,
        "kid_reference": _over_draws(reference, "kid"),
        "kid_reference_note": reference.note,
        "prdc_reference": shares if known else None,
        "prdc_reference_note": reference.note,
    }


def _over_draws(reference: RealReference, name: str) -> dict[str, Any] | None:
    """Mean and range over the draws of a real–real value."""
    mean, ends = reference.mean(name), reference.range(name)
    if mean is None or ends is None:
        return None
    several = len(reference.draws) > 1
    return {
        "value": mean,
        "low": ends[0] if several else None,
        "high": ends[1] if several else None,
        "draws": len(reference.draws),
    }


def _group(group: GroupFidelity) -> dict[str, Any]:
    return {
        "group": group.group,
        "n_real": group.n_real,
        "n_generated": group.n_generated,
        "kid": _with_ends(group.kid),
        "kid_reference": group.reference and _over_draws(group.reference, "kid"),
        "kid_reference_note": group.reference.note if group.reference else "",
        "note": group.note,
    }


def _likeness(
    vectors: Vectors, cohort: Cohort, resampling: Resampling, generator: np.random.Generator
) -> dict[str, Any]:
    """Feature distances within the sets, and of each generated picture to its own real one."""
    place = {sample["key"]: row for row, sample in enumerate(cohort.samples)}
    own = vectors.real[[place[key] for key in cohort.keys]]
    result: dict[str, Any] = {}
    own_patients = [str(sample["patient_id"]) for sample in cohort.samples]
    try:
        for name, features, patients, resampler in (
            ("diversity_generated", vectors.generated, cohort.patients, resampling.generated),
            ("diversity_real", vectors.real, own_patients, resampling.real),
        ):
            pairs = random_pairs(patients, MOST_PAIRS, generator)
            if not len(pairs):
                result |= {name: None, f"{name}_note": _ONE_PATIENT}
                continue
            interval = resampler.interval(pair_mean(pairs, feature_diversity(features, pairs)))
            interval.write(result, name, n=len(features), pairs=len(pairs))
        distances = paired_feature_distance(vectors.generated, own)
        interval = resampling.generated.interval(weighted_mean(distances))
        interval.write(result, "paired", n=len(distances))
        others = other_patients(cohort.patients, generator)
        if others is None:
            return result | {"paired_floor": None, "paired_floor_note": _ONE_PATIENT}
        foreign = paired_feature_distance(vectors.generated, own[others])
        interval = resampling.generated.interval(weighted_mean(foreign))
        interval.write(result, "paired_floor", n=len(foreign))
    except ValueError as error:  # a vector of length 0 has no direction to compare
        names = ("diversity_generated", "diversity_real", "paired", "paired_floor")
        return dict.fromkeys(names) | {f"{name}_note": str(error) for name in names}
    return result


def _with_ends(value: object) -> dict[str, Any] | None:
    """A value with its interval as the results file holds it."""
    if value is None:
        return None
    return {name: getattr(value, name) for name in ("value", "low", "high")}
