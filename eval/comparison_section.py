"""The results file's section ``comparison``: the run and other generators, on the same prompts."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from arra_med.eval.chexgenbench import benchmark_row, benchmark_section
from arra_med.eval.comparison import compare
from arra_med.eval.comparison_rows import Measured, Shared
from arra_med.eval.consistency import USABLE_JUDGE, recognised
from arra_med.eval.encoder_sections import Encoder
from arra_med.eval.formatting import decimal
from arra_med.eval.judge_sections import Verdict
from arra_med.eval.preflight import COPIES
from arra_med.eval.stage import Stage
from arra_med.eval.summary_evidence import judge_obstacle, scored_rows
from arra_med.eval.teacher_extractor import CXGB_COMPAT
from arra_med.eval.text_section import Reading
from arra_med.settings.results import THIS_RUN

logger = logging.getLogger(__name__)

_EXACT_ONLY = "among the others' pictures only exact copies of training pictures are looked for"


def comparison_section(
    stage: Stage,
    verdicts: Sequence[Verdict],
    encoders: Sequence[Encoder],
    readings: Sequence[Reading],
    preflight: Mapping[str, Any],
) -> tuple[dict[str, Any] | None, str | None]:
    """Section ``comparison``, or the reason why there is none."""
    if not stage.peers and not stage.options.chexgenbench:
        return None, "evaluation.others names no other generator"
    section: dict[str, Any] = {
        "generators": [],
        "measures": [],
        "differences": [],
        "adjustment": None,
        "chexgenbench": None,
    }
    if stage.peers:
        copies = _that_copy(preflight)
        section = _compared(stage, verdicts, encoders, readings, frozenset(copies))
        elsewhere = [words.rstrip(".") for words in stage.trained_elsewhere.values()]
        notes = [section["generators_note"], *copies.values(), *elsewhere, _EXACT_ONLY]
        section["generators_note"] = "; ".join(filter(None, notes)) or None
    if stage.options.chexgenbench:
        section["chexgenbench"] = _beside_the_benchmark(stage, encoders)
    return section, None


def _that_copy(preflight: Mapping[str, Any]) -> dict[str, str]:
    """Generators some of whose pictures are training pictures → how many: they win by copying."""
    first, *others = preflight["folders"]
    named = [(THIS_RUN, first), *((folder["name"], folder) for folder in others)]
    found = {
        name: f"{name}: {problem}; so it is shown and not tested"
        for name, folder in named
        for problem in folder["problems"]
        if COPIES in problem
    }
    for words in found.values():
        logger.warning("%s", words)
    return found


def _beside_the_benchmark(stage: Stage, encoders: Sequence[Encoder]) -> dict[str, Any]:
    cohort = stage.cohort
    encoder = next((e for e in encoders if e.info.name.startswith(CXGB_COMPAT)), None)
    ours = []
    if encoder is not None:
        ours = [
            benchmark_row(
                name,
                encoder.real,
                encoder.drawn(name),
                forced=stage.options.force_fd,
                device=stage.device,
            )
            for name in stage.generators
        ]
    return benchmark_section(
        ours,
        extractor=None if encoder is None else encoder.info.name,
        dataset=cohort.dataset,
        split=cohort.split,
        n_real=len(cohort.samples),
        n_generated=len(cohort.pictures),
        resized=cohort.resized,
    )


def _compared(
    stage: Stage,
    verdicts: Sequence[Verdict],
    encoders: Sequence[Encoder],
    readings: Sequence[Reading],
    copiers: frozenset[str],
) -> dict[str, Any]:
    """Every pair of generators, on the pictures that all have."""
    cohort = stage.cohort
    generators = [_measured(stage, name, verdicts, encoders, readings) for name in stage.generators]
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
            ceiling=_ceiling(stage, verdicts, readings),
            min_positives=stage.options.min_positives,
            against=_against(verdicts, encoders, readings),
            weak={verdict.judge.info.name: _weak(verdict.row) for verdict in verdicts},
            copiers=copiers,
        ),
        bootstrap=stage.options.bootstrap,
        generator=stage.generator("comparison"),
        device=stage.device,
    )


def _against(
    verdicts: Sequence[Verdict], encoders: Sequence[Encoder], readings: Sequence[Reading]
) -> dict[str, str]:
    """Network → why it is not independent of one of the generators, whichever that is.

    A generator that was aligned to a network wins in its space, against the run or another one.
    """
    found = [(v.judge.info.name, v.row["not_independent_because"], v.of_peers) for v in verdicts]
    found += [(e.info.name, e.against, e.of_peers) for e in encoders]
    found += [(r.encoder, r.row["not_independent_because"], r.of_peers) for r in readings]
    reasons: dict[str, dict[str, None]] = {}
    for name, own, of_peers in found:  # a judge may be an extractor's network, under one name
        reasons.setdefault(name, {}).update(dict.fromkeys([*own, *of_peers]))
    return {name: "; ".join(each) for name, each in reasons.items() if each}


def _ceiling(stage: Stage, verdicts: Sequence[Verdict], readings: Sequence[Reading]) -> Measured:
    """Judges and encoders on the real picture of each prompt, as if it were a generator's."""
    return Measured(
        name="real images",
        kind="real",
        model=None,
        keys=stage.cohort.keys,
        indices=[int(row["index"]) for row in stage.cohort.generated],
        probabilities={verdict.judge.info.name: verdict.judged.real for verdict in verdicts},
        text={reading.encoder: reading.real for reading in readings},
    )


def _weak(judge: Mapping[str, Any]) -> dict[str, str]:
    """Finding, or the judge's name for all of them → why it does not read real images well enough.

    Args:
        judge: of section ``judges``.
    """
    reasons = {
        str(row["finding"]): "on real images the judge recognises it with an AUROC of "
        f"{decimal(row['auroc_real'] and row['auroc_real']['value'])}, and "
        f"{decimal(USABLE_JUDGE)} are needed"
        for row in scored_rows(judge)
        if not recognised(row)
    }
    obstacle = judge_obstacle(judge)
    if obstacle:
        reasons[str(judge["name"])] = f"{obstacle[:1].lower()}{obstacle[1:].rstrip('.')}"
    return reasons


def _measured(
    stage: Stage,
    name: str,
    verdicts: Sequence[Verdict],
    encoders: Sequence[Encoder],
    readings: Sequence[Reading],
) -> Measured:
    drawn, peer = stage.generators[name], stage.peers.get(name)
    return Measured(
        name=name,
        kind=peer.kind if peer else "run",
        model=peer.model if peer else stage.model,
        keys=drawn.keys,
        indices=[int(row["index"]) for row in drawn.generated],
        features={encoder.info.name: encoder.drawn(name) for encoder in encoders},
        probabilities={
            verdict.judge.info.name: verdict.peers[name] if peer else verdict.judged.generated
            for verdict in verdicts
        },
        text={
            reading.encoder: reading.peers[name] if peer else reading.generated
            for reading in readings
        },
        paired=stage.likeness(drawn) if peer else stage.own_likeness,
    )
