"""The results file's section ``comparison``: the run and other generators, on the same prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

from arra_med.eval.cohort import Cohort
from arra_med.eval.comparison import Measured, Shared, compare
from arra_med.eval.encoder_sections import Encoder
from arra_med.eval.intervals import Array
from arra_med.eval.judge_sections import Verdict
from arra_med.eval.similarity import paired
from arra_med.eval.stage import Stage
from arra_med.eval.text_section import Reading

RUN = "this run"


def comparison_section(
    stage: Stage,
    verdicts: Sequence[Verdict],
    encoders: Sequence[Encoder],
    readings: Sequence[Reading],
) -> dict[str, Any]:
    """Every pair of generators, on the pictures that all have."""
    cohort = stage.cohort
    generators = [
        _measured(
            stage,
            RUN,
            "run",
            stage.model,
            cohort,
            {encoder.info.name: encoder.generated for encoder in encoders},
            {verdict.judge.info.name: verdict.judged.generated for verdict in verdicts},
            {reading.encoder: reading.generated for reading in readings},
        )
    ]
    for name, peer in stage.peers.items():
        generators.append(
            _measured(
                stage,
                name,
                peer.kind,
                peer.model,
                peer.cohort,
                {
                    encoder.info.name: encoder(peer.cohort.pictures, f"{encoder.info.name}: {name}")
                    for encoder in encoders
                },
                {verdict.judge.info.name: verdict.peers[name] for verdict in verdicts},
                {reading.encoder: reading.peers[name] for reading in readings},
            )
        )
    against = {
        verdict.judge.info.name: verdict.row["not_independent_because"] for verdict in verdicts
    }
    against |= {encoder.info.name: encoder.against for encoder in encoders}
    against |= {reading.encoder: reading.row["not_independent_because"] for reading in readings}
    return compare(
        generators,
        Shared(
            patients={sample["key"]: str(sample["patient_id"]) for sample in cohort.samples},
            labels={sample["key"]: sample["labels"] for sample in cohort.samples},
            thresholds={
                verdict.judge.info.name: {
                    row["finding"]: verdict.judged.thresholds[row["finding"]]
                    for row in verdict.row["findings"]
                    if row["status"] == "scored"
                }
                for verdict in verdicts
            },
            real={encoder.info.name: encoder.real for encoder in encoders},
            real_patients=[str(sample["patient_id"]) for sample in cohort.samples],
            against={name: "; ".join(reasons) for name, reasons in against.items() if reasons},
        ),
        bootstrap=stage.options.bootstrap,
        generator=stage.generator("comparison"),
        device=stage.device,
    )


def _measured(
    stage: Stage,
    name: str,
    kind: str,
    model: Mapping[str, Any],
    cohort: Cohort,
    features: Mapping[str, Any],
    probabilities: Mapping[str, Mapping[str, Array]],
    text: Mapping[str, Array],
) -> Measured:
    real = [stage.cohort.real[key] for key in cohort.keys]
    return Measured(
        name=name,
        kind=kind,
        model=model,
        keys=cohort.keys,
        indices=[int(row["index"]) for row in cohort.generated],
        features=features,
        probabilities=probabilities,
        text=text,
        paired=paired(
            cohort.pictures, real, batch_size=stage.options.batch_size, device=stage.device
        ),
    )
