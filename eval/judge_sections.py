"""The results file's sections ``judges`` and ``laterality``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from arra_med.eval import consistency, judging
from arra_med.eval.estimators import Array
from arra_med.eval.judge import Judge
from arra_med.eval.judging import Judged
from arra_med.eval.laterality import SidedPictures, laterality_test
from arra_med.eval.networks import Identity
from arra_med.eval.stage import Stage, described


@dataclass(frozen=True, eq=False, kw_only=True)
class Verdict:
    """One judge's account of the cohort.

    Attributes:
        judge: the network.
        row: of section ``judges``.
        judged: its probabilities.
        peers: generator → finding → ``(M,)`` its probabilities on that generator's pictures.
        of_peers: why it is not independent of another generator.
    """

    judge: Judge
    row: dict[str, Any]
    judged: Judged
    peers: Mapping[str, Mapping[str, Array]]
    of_peers: Sequence[str]

    @property
    def independent(self) -> bool:
        """Whether it may count as evidence."""
        return bool(self.row["independent"])


def ask_judges(stage: Stage, judges: Sequence[tuple[Judge, Identity]]) -> list[Verdict]:
    """Every judge's account, in their order."""
    return [_ask(stage, judge, identity) for judge, identity in judges]


def primary(verdicts: Sequence[Verdict]) -> Verdict:
    """The first independent one; the first of all if there is none."""
    return next((verdict for verdict in verdicts if verdict.independent), verdicts[0])


def _ask(stage: Stage, judge: Judge, identity: Identity) -> Verdict:
    cohort = stage.cohort
    against = stage.objections(identity, judge.info)
    if cohort.split == "validate":
        against.append("the judge's thresholds were fixed on the pictures it judges")
    judged = judging.judge_cohort(
        judge,
        partial(stage.predict, judge),
        partial(stage.predict_real, judge, identity),
        stage.prepared,
        cohort,
    )
    findings, overall = judging.findings_sections(
        judge,
        judged,
        cohort,
        stage.prepared.label_names,
        bootstrap=stage.resampling.generated,
        min_positives=stage.options.min_positives,
    )
    row = {
        "name": judge.info.name,
        **described(judge.info, against),
        "threshold_rule": consistency.THRESHOLD_RULE,
        "not_judged": dict(judge.not_judged),
        "findings": findings,
        "overall": overall,
    }
    peers = {
        name: judging.by_finding(
            judge,
            stage.predict(judge, peer.drawn.pictures, f"judge: {name}"),
            stage.prepared.label_names,
        )
        for name, peer in stage.peers.items()
    }
    return Verdict(
        judge=judge,
        row=row,
        judged=judged,
        peers=peers,
        of_peers=stage.peer_objections(identity, judge.info),
    )


def laterality_section(stage: Stage, verdict: Verdict) -> tuple[dict[str, Any] | None, str | None]:
    """Section ``laterality`` by one judge, or the reason why there is none."""
    cohort = stage.cohort
    by_key = {sample["key"]: sample for sample in cohort.samples}

    def sided(rows: Sequence[Mapping[str, Any]], pngs: Sequence[bytes]) -> SidedPictures:
        samples = [by_key[row["key"]] for row in rows]
        return SidedPictures(
            keys=[row["key"] for row in rows],
            indices=[row["index"] for row in rows],
            prompts=[row["prompt"] for row in rows],
            labels=[sample["labels"] for sample in samples],
            views=[sample["view"] for sample in samples],
            patients=[str(sample["patient_id"]) for sample in samples],
            pngs=pngs,
        )

    prompts = [{**sample, "index": 0} for sample in cohort.prompts]
    swapped = None
    if stage.swapped is not None:
        swapped = sided(stage.swapped.rows, stage.swapped.pngs)
    result, note = laterality_test(
        findings=verdict.judge.findings,
        predict=partial(stage.predict, verdict.judge),
        generated=sided(cohort.generated, cohort.pictures),
        real=sided(prompts, [cohort.real[row["key"]] for row in prompts]),
        swapped=swapped,
        replicates=stage.options.bootstrap,
        generator=stage.generator("laterality"),
    )
    if result is None:
        return None, note
    if stage.swapped is not None and result["swapped"] is not None:
        result["swapped"]["unreadable"] = stage.swapped.unreadable
    evidence = {name: verdict.row[name] for name in ("independent", "not_independent_because")}
    return {"judge": verdict.judge.info.name, **evidence, **result}, None
