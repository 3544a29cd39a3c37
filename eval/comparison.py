"""Several generators on the same prompts: each pair compared on the same resamples of patients.

Only pictures that all generators have (the same prompts, the same numbers of each) are compared, so
that every difference is paired. Judges' measures, text alignment, likeness, KID, precision and
density resample the patients of the prompts, the real pictures as given. Recall and coverage are
shares of real pictures and resample their patients; what the choice of generated pictures adds is
estimated without repetitions (see :mod:`arra_med.eval.comparison_statistics`).
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch

from arra_med.eval.comparison_judges import judged_rows
from arra_med.eval.comparison_rows import Measured, Row, Shared
from arra_med.eval.comparison_statistics import (
    clustered_kid,
    coverage_contrasts,
    patient_halves,
    recall_contrasts,
    within,
)
from arra_med.eval.estimators import Statistic, weighted_mean
from arra_med.eval.feature_stats import Array
from arra_med.eval.fidelity import MAIN_NEIGHBOURS
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.multiplicity import holm
from arra_med.eval.prdc import memberships

CPU = torch.device("cpu")
_AIMS = {"precision": "higher", "density": None, "recall": "higher", "coverage": "higher"}
"""A few pictures drawn again and again raise the density."""


def compare(
    generators: Sequence[Measured],
    shared: Shared,
    *,
    bootstrap: int,
    generator: np.random.Generator,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """The results file's section ``comparison``, but for ``chexgenbench``.

    Args:
        generators: at least two, of different names.
        shared: labels, thresholds and real pictures.
        bootstrap: resamples.
        generator: draws resamples and halves.
        device: where neighbours are looked for.

    Raises:
        ValueError: if there are fewer than two generators, two of one name, or no picture that
            all of them have.
    """
    names = [one.name for one in generators]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"expected two generators or more, of different names, got {names}")
    common = set.intersection(*(set(one.pictures) for one in generators))
    if not common:
        raise ValueError(f"no prompt was drawn by all of {', '.join(names)}: nothing to compare")
    aligned = [one.aligned(sorted(common)) for one in generators]
    patients = [shared.patients[key] for key in aligned[0].keys]
    made, real = (
        ClusteredBootstrap(list(clusters), replicates=bootstrap, generator=generator)
        for clusters in (patients, shared.real_patients)
    )
    shared = replace(shared, ceiling=shared.ceiling.aligned(sorted(common)))
    rows = [
        *judged_rows(aligned, shared, made),
        *_per_picture(aligned, shared, made),
        *_distances(aligned, shared, patients, made, real, generator, device),
    ]
    differences = [
        _difference(row, first, second)
        for row in rows
        if not row.not_tested(shared)
        for first, second in combinations(
            [name for name in names if name in row.statistics and name not in shared.copiers], 2
        )
    ]
    tested = [row for row in differences if row["p"] is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_adjusted"] = adjusted
    most = max(len(one.keys) for one in generators)
    return {
        "generators": [
            {"name": one.name, "kind": one.kind, "n": len(common), "model": one.model and
             dict(one.model)} for one in generators
        ],
        "generators_note": (
            None
            if all(len(one.keys) == len(common) for one in generators)
            else f"compared on the {len(common)} pictures of {len(set(aligned[0].keys))} prompts "
            f"that all have; the most that one has is {most}"
        ),
        "measures": [_measure(row, names, shared) for row in rows],
        "differences": differences,
        "adjustment": f"Holm over {len(tested)} comparisons" if tested else None,
        "chexgenbench": None,
    }  # fmt: skip


def _per_picture(
    generators: Sequence[Measured], shared: Shared, bootstrap: ClusteredBootstrap
) -> list[Row]:
    """Means of what each picture has a value of."""
    encoders = dict.fromkeys(name for one in generators for name in one.text)
    rows = [
        Row(
            measure="text_alignment", subject=encoder, aim="higher", bootstrap=bootstrap,
            network=encoder,
            statistics={
                one.name: weighted_mean(one.text[encoder])
                for one in generators if encoder in one.text
            },
            real=weighted_mean(shared.ceiling.text[encoder]) if encoder in shared.ceiling.text
            else None,
        )
        for encoder in encoders
    ]  # fmt: skip
    paired = {one.name: weighted_mean(one.paired) for one in generators if one.paired is not None}
    if paired:
        rows.append(
            Row(measure="paired", subject="MS-SSIM", aim="higher", statistics=paired,
                 bootstrap=bootstrap)
        )  # fmt: skip
    return rows


def _distances(
    generators: Sequence[Measured],
    shared: Shared,
    patients: Sequence[str],
    made: ClusteredBootstrap,
    real: ClusteredBootstrap,
    generator: np.random.Generator,
    device: torch.device,
) -> list[Row]:
    """KID, precision, density, recall and coverage, one extractor after another."""
    halves = patient_halves(patients, generator, least=MAIN_NEIGHBOURS + 1)
    rows = []
    for extractor, of_real in shared.real.items():
        kid: dict[str, Statistic] = {}
        shares: dict[str, dict[str, Statistic]] = {name: {} for name in _AIMS}
        contrasts: dict[str, dict[str, Array]] = {"recall": {}, "coverage": {}}
        known: float | None = None
        for one in generators:
            if extractor not in one.features:
                continue
            features = one.features[extractor]
            if made.num_clusters > 1 and real.num_clusters > 1:
                known = within(of_real, shared.real_patients) if known is None else known
                kid[one.name] = clustered_kid(
                    of_real, features, shared.real_patients, patients, within_real=known
                )
            if not halves or len(of_real) <= MAIN_NEIGHBOURS:
                continue
            [found] = memberships(of_real, features, (MAIN_NEIGHBOURS,), device=device).values()
            for name, values in (
                ("precision", found.balls > 0), ("density", found.balls / MAIN_NEIGHBOURS),
                ("recall", found.recalled), ("coverage", found.covered),
            ):  # fmt: skip
                shares[name][one.name] = weighted_mean(values.astype(np.float64))
            contrasts["recall"][one.name] = recall_contrasts(
                of_real, features, halves, k=MAIN_NEIGHBOURS, device=device
            )
            contrasts["coverage"][one.name] = coverage_contrasts(
                of_real, features, patients, k=MAIN_NEIGHBOURS, device=device
            )
        rows.append(
            Row(measure="kid", subject=extractor, aim="lower", statistics=kid, bootstrap=made,
                 network=extractor)
        )  # fmt: skip
        rows += [
            Row(
                measure=name, subject=extractor, aim=_AIMS[name], statistics=shares[name],
                bootstrap=real if name in ("recall", "coverage") else made, network=extractor,
                contrasts=contrasts.get(name, {}),
            )
            for name in _AIMS
        ]  # fmt: skip
    return rows


def _measure(row: Row, names: Sequence[str], shared: Shared) -> dict[str, Any]:
    values = []
    for name in names:
        value: dict[str, Any] = {"generator": name, "value": None}
        if name in row.statistics:
            found = row.interval(name)
            value["value"] = found.estimate()
            value["value_note"] = found.note or None
            to_real = row.to_real(name)
            if to_real is not None:
                to_real.write(value, "difference_to_real")
        else:
            value["value_note"] = "not measured, or too few pictures or patients"
        values.append(value)
    result = {"measure": row.measure, "subject": row.subject, "aim": row.aim, "values": values}
    if row.real is not None:
        row.bootstrap.interval(row.real).times(row.factor).write(result, "real")
    notes = [row.note] if row.note else []
    if row.statistics and (why := row.not_tested(shared)):
        notes.append(f"shown, not tested: {why}")
    if notes:
        result["subject_note"] = "; ".join(notes)
    return result


def _difference(row: Row, first: str, second: str) -> dict[str, Any]:
    found = row.difference(first, second)
    return {
        "measure": row.measure,
        "subject": row.subject,
        "first": first,
        "second": second,
        "difference": found.estimate(),
        "difference_note": found.note or None,
        "p": found.p,
        "p_adjusted": None,
    }
