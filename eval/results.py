"""``results.json`` from everything that was measured."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from arra_med._version import __version__
from arra_med.eval import consistency, judging, measures
from arra_med.eval.comparison_section import comparison_section
from arra_med.eval.encoder_sections import (
    copies,
    fidelity_section,
    ready_encoders,
    reference_pool,
    view_section,
)
from arra_med.eval.goals import goal_rows
from arra_med.eval.judge_sections import Verdict, ask_judges, laterality_section, primary
from arra_med.eval.networks import open_networks
from arra_med.eval.panels import RULES, choose, panels
from arra_med.eval.privacy import CopySearch
from arra_med.eval.stage import Stage
from arra_med.eval.text_section import read_prompts
from arra_med.schema import SCHEMA_VERSION
from arra_med.settings.results import THIS_RUN

SCORES = "scores.parquet"
CLOSEST_PANELS = 4
"""Pictures shown beside their nearest training picture."""

_PACKAGES = (
    "monai", "numpy", "pillow", "scikit-learn", "scipy", "torch", "torchvision", "torchxrayvision",
)  # fmt: skip

Files = dict[str, bytes | pa.Table]


def make_results(
    stage: Stage, config: Mapping[str, Any], preflight: Mapping[str, Any]
) -> tuple[dict[str, Any], Files]:
    """All sections, and the files beside ``results.json``.

    Args:
        stage: what is evaluated.
        config: of the evaluation folder: identities of all networks and inputs.
        preflight: that section.
    """
    cohort = stage.cohort
    networks = open_networks(stage.options, config)
    verdicts = ask_judges(stage, networks.judges)
    pool = reference_pool(stage)
    encoders = ready_encoders(stage, networks.extractors, pool)
    search = copies(stage, encoders)
    view, view_note = view_section(stage, encoders, pool)
    laterality, laterality_note = laterality_section(stage, primary(verdicts))
    readings = read_prompts(stage, networks.image_text)
    comparison, comparison_note = comparison_section(stage, verdicts, encoders, readings, preflight)
    rows, files = _panels(stage, primary(verdicts), search)
    results: dict[str, Any] = {
        "kind": "evaluation",
        "schema_version": SCHEMA_VERSION,
        "model": dict(stage.model),
        "model_note": stage.trained_elsewhere.get(THIS_RUN),
        "cohort": cohort.to_json(),
        "preflight": preflight,
        "labels": cohort.labels,
        "fidelity": fidelity_section(stage, encoders, pool),
        "similarity": measures.similarity(
            cohort,
            stage.resampling,
            likeness=stage.own_likeness,
            batch_size=stage.options.batch_size,
            device=stage.device,
            generator=stage.generator("similarity"),
        ),
        "judges": [verdict.row for verdict in verdicts],
        "view": view,
        "view_note": view_note,
        "laterality": laterality,
        "laterality_note": laterality_note,
        "text": [reading.row for reading in readings],
        "text_note": None if readings else "evaluation.image_text names no encoder",
        "memorisation": search.section,
        "memorisation_note": search.note or None,
        "comparison": comparison,
        "comparison_note": comparison_note,
        "panels": rows,
        "protocol": _protocol(config),
    }
    results["goals"] = goal_rows(stage.options.goals, results)
    reasons = _status_reasons(results)
    results |= {"status": "incomplete" if reasons else "complete", "status_reasons": reasons}
    labels = stage.prepared.samples.schema.field("labels")
    judged = primary(verdicts).judged
    return results, {**files, SCORES: judging.scores_table(judged, cohort, labels)}


def _panels(
    stage: Stage, verdict: Verdict, search: CopySearch
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    cohort, judged = stage.cohort, verdict.judged
    distances = judging.distances(judged, cohort)
    choices = choose(distances, stage.options.panels, stage.generator("panels"))
    closest = search.closest[:CLOSEST_PANELS]
    training = stage.prepared.images([near.train_key for near in closest]) if closest else {}
    return panels(cohort, choices, judged.generated, judged.real, closest, training)


def _status_reasons(results: Mapping[str, Any]) -> list[str]:
    """Why the evaluation is incomplete, in words; empty if it is complete."""
    reasons = _no_independent("judge", results["judges"])
    reasons += _no_independent("extractor", results["fidelity"])
    if not any(
        row["status"] == "scored" for judge in results["judges"] for row in judge["findings"]
    ):
        reasons.append("No finding had enough pictures to be scored.")
    return reasons


def _no_independent(kind: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The objections to all of a kind, if there are any to each of them."""
    if any(row["independent"] for row in rows):
        return []
    reasons = dict.fromkeys(reason for row in rows for reason in row["not_independent_because"])
    return [f"No independent {kind}: {reason}." for reason in reasons]


def _protocol(config: Mapping[str, Any]) -> dict[str, Any]:
    """What travels with every number."""
    versions = {"arra_med": __version__, "python": platform.python_version()}
    return {
        **config,
        "versions": versions | {package: version(package) for package in _PACKAGES},
        "uncertain_labels": consistency.UNCERTAIN_POLICY,
        "intervals": "95 %, clustered by patient",
        "multiplicity": "p values by Holm over the findings of a judge, and over a comparison",
        "resize": "none before the networks; each resizes as its preprocessing says",
        "panel_rules": RULES,
    }
