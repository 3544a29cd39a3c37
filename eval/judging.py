"""A judge's verdicts on a cohort, and the results file's sections that follow from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arra_med.eval import consistency
from arra_med.eval.cohort import Cohort
from arra_med.eval.consistency import Verdicts
from arra_med.eval.estimators import Array
from arra_med.eval.inference import PictureSource
from arra_med.eval.intervals import ClusteredBootstrap
from arra_med.eval.judge import Judge
from arra_med.eval.prompt_labels import Mode, with_labels
from arra_med.schema import ABSENT, PRESENT
from arra_med.store import PreparedFolder

NO_FINDING, DEVICES = "No Finding", "Support Devices"

Predict = Callable[[PictureSource, str], NDArray[np.float32]]
"""Pictures and a name for the progress bar to ``(N, F)`` outputs."""
PredictReal = Callable[[Sequence[str], str], NDArray[np.float32]]
"""The same for real pictures, by key."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Probabilities by finding, for those findings that are also labels.

    Attributes:
        generated: ``(N,)`` on each generated picture.
        real: ``(N,)`` on the real picture of each one's prompt.
        thresholds: from real pictures of the validate split; ``None`` where there is none.
    """

    generated: dict[str, Array]
    real: dict[str, Array]
    thresholds: dict[str, float | None]


def judge_cohort(
    judge: Judge,
    predict: Predict,
    predict_real: PredictReal,
    prepared: PreparedFolder,
    cohort: Cohort,
) -> Judged:
    """Ask the judge about every generated picture and every prompt's real picture, once each."""
    prompts = [sample["key"] for sample in cohort.prompts]
    place = {key: row for row, key in enumerate(prompts)}
    rows = [place[key] for key in cohort.keys]
    names = prepared.label_names
    of_prompts = by_finding(judge, predict_real(prompts, "judge: real"), names)
    thresholds = validate_thresholds(judge, predict_real, prepared, cohort.label_mode)
    return Judged(
        generated=by_finding(judge, predict(cohort.pictures, "judge: generated"), names),
        real={name: values[rows] for name, values in of_prompts.items()},
        thresholds={name: thresholds.get(name) for name in of_prompts},
    )


def by_finding(
    judge: Judge, outputs: NDArray[np.float32], label_names: Sequence[str]
) -> dict[str, Array]:
    """``(N, F)`` outputs as finding → ``(N,)``, for those findings that are labels too."""
    return {
        name: outputs[:, column].astype(np.float64)
        for column, name in enumerate(judge.findings)
        if name in label_names
    }


def validate_thresholds(
    judge: Judge, predict_real: PredictReal, prepared: PreparedFolder, labels: Mode
) -> dict[str, float | None]:
    """Each finding's threshold on the validate split; empty if that split has no sample."""
    if "validate" not in prepared.samples["split"].to_pylist():
        return {}
    rows, _ = with_labels(prepared.rows("validate"), labels)
    keys = [row["key"] for row in rows]
    outputs = predict_real(keys, "judge: thresholds")
    return {
        name: consistency.balanced_threshold(
            consistency.label_array([row["labels"].get(name) for row in rows]), outputs[:, column]
        )
        for column, name in enumerate(judge.findings)
    }


def prompt_labels(cohort: Cohort, finding: str) -> Array:
    """``(N,)`` the prompt's label of each generated picture, NaN for unknown."""
    return consistency.label_array([sample["labels"][finding] for sample in cohort.sample_of])


def findings_sections(
    judge: Judge,
    judged: Judged,
    cohort: Cohort,
    label_names: Sequence[str],
    *,
    bootstrap: ClusteredBootstrap,
    min_positives: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Sections ``findings``, one row a label name, and ``overall``.

    A finding is scored if at least ``min_positives`` prompts ask for it and as many exclude it; p
    values are adjusted over the scored findings.
    """
    rows, scored = [], []
    for name in label_names:
        counts = consistency.count_labels([sample["labels"][name] for sample in cohort.prompts])
        row: dict[str, Any] = {"finding": name, **counts}
        if name not in judged.generated:
            reason = judge.not_judged.get(name, f"{judge.info.name} does not judge it")
            row |= {"status": "not judged", **consistency.nothing(reason)}
        elif min(counts["positives"], counts["negatives"]) < min_positives:
            reason = (
                f"{counts['positives']} prompts with it and {counts['negatives']} without; "
                f"{min_positives} of each are needed"
            )
            row |= {"status": "too few", **consistency.nothing(reason)}
        else:
            verdicts = Verdicts(
                labels=prompt_labels(cohort, name),
                generated=judged.generated[name],
                real=judged.real[name],
                threshold=judged.thresholds[name],
                prompts=cohort.keys,
            )
            scored.append(verdicts)
            row |= {"status": "scored", **consistency.judge_finding(verdicts, bootstrap)}
        rows.append(row)
    judged_rows = [row for row in rows if row["status"] == "scored"]
    consistency.adjust_tests(judged_rows)
    overall = consistency.overall(scored, bootstrap)
    if NO_FINDING in label_names and scored:
        clear = [
            verdicts
            for verdicts, row in zip(scored, judged_rows, strict=True)
            if row["finding"] not in (NO_FINDING, DEVICES) and consistency.recognised(row)
        ]
        normal = prompt_labels(cohort, NO_FINDING) == PRESENT
        overall |= consistency.shown_in_normal(clear, normal, bootstrap, least=min_positives)
    return rows, overall


def distances(judged: Judged, cohort: Cohort) -> Array:
    """``(N,)`` how far the verdict on each generated picture is from its prompt's labels.

    A prompt of a normal film excludes every finding but devices, whatever it leaves unsaid.
    """
    normal = np.array([row["labels"].get(NO_FINDING) == PRESENT for row in cohort.sample_of])
    labels = {}
    for name in judged.generated:
        known = prompt_labels(cohort, name)
        excluded = normal & (name not in (NO_FINDING, DEVICES)) & np.isnan(known)
        labels[name] = np.where(excluded, ABSENT, known)
    return consistency.disagreement(labels, judged.generated, len(cohort.pictures))


def scores_table(judged: Judged, cohort: Cohort, labels: pa.Field) -> pa.Table:
    """One row a generated picture: key, index, patient, probabilities and labels.

    Without probabilities, of a judge that shares no finding with the labels, their columns are left
    out: Parquet holds no column of no fields.

    Args:
        judged: the probabilities.
        cohort: the pictures.
        labels: the field ``labels`` of ``samples.parquet``.
    """
    sides = {"judge_generated": judged.generated, "judge_real": judged.real}
    columns = [
        pa.field(side, pa.struct([pa.field(name, pa.float64()) for name in probabilities]))
        for side, probabilities in sides.items()
        if probabilities
    ]
    rows = [
        {
            "key": row["key"],
            "index": row["index"],
            "patient_id": sample["patient_id"],
            **{
                side: {name: float(p[i]) for name, p in probabilities.items()}
                for side, probabilities in sides.items()
            },
            "labels": sample["labels"],
        }
        for i, (row, sample) in enumerate(zip(cohort.generated, cohort.sample_of, strict=True))
    ]
    schema = pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("index", pa.int32(), nullable=False),
            pa.field("patient_id", pa.string(), nullable=False),
            *columns,
            labels,
        ]
    )
    return pa.Table.from_pylist(rows, schema)
