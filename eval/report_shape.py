"""What the templates read of ``results.json``: a copy in which nothing is absent, only null."""

from collections.abc import Mapping
from typing import Any

from arra_med.eval.explanations import Results

SECTIONS = (
    "status",
    "status_reasons",
    "goals",
    "model",
    "cohort",
    "preflight",
    "fidelity",
    "similarity",
    "judges",
    "view",
    "laterality",
    "text",
    "memorisation",
    "labels",
    "comparison",
    "panels",
    "protocol",
)
"""What ``results.json`` must hold; any of it may be null, none of it may be absent."""


def _fields(names: str, **nested: Any) -> dict[str, Any]:  # noqa: ANN401 - shapes nest
    return {**dict.fromkeys(names.split()), **nested}


_EVIDENCE = "trained_on preprocessing independent not_independent_because"
_FINDING = (
    "finding status positives negatives uncertain unknown unmentioned threshold sensitivity "
    "specificity missed_per_100 invented_per_100 real_missed_per_100 real_invented_per_100 "
    "invented_unmentioned_per_100 real_invented_unmentioned_per_100 auroc_real auroc_generated "
    "auroc_difference auroc_difference_p auroc_difference_p_adjusted missed_more_p "
    "missed_more_p_adjusted agreement histogram"
)
_SHAPE: dict[str, Any] = _fields(
    "model_note judge_note fidelity_note similarity_note view_note laterality_note text_note "
    "memorisation_note comparison_note labels_note preflight_note",
    cohort=_fields(
        "split prompts generated images_per_prompt real patients unreadable views labels_from "
        "resized represents_split",
        flow=[_fields("step count")],
    ),
    protocol=_fields("seed bootstrap min_positives versions uncertain_labels multiplicity"),
    similarity=_fields("method"),
    preflight=_fields(
        "",
        folders=[
            _fields(
                "name pictures unreadable num_unreadable sizes modes num_constant constant "
                "num_duplicates duplicates problems"
            )
        ],
        copies_of_training=_fields("num pairs"),
    ),
    fidelity=[
        _fields(
            f"extractor dimension {_EVIDENCE} reference n_real n_generated prdc_k",
            groups=[_fields("group n_real n_generated kid kid_reference note")],
            prdc_other_k=[_fields("k precision recall density coverage")],
        )
    ],
    judges=[
        _fields(
            f"name {_EVIDENCE} threshold_rule not_judged",
            findings=[_fields(_FINDING)],
            overall=_fields("auroc_real auroc_generated auroc_difference"),
        )
    ],
    view=_fields(
        "classifier independent not_independent_because n agreement agreement_real",
        by_view=[_fields("view n shown_as agreement agreement_real")],
    ),
    laterality=_fields(
        "judge independent n followed followed_real swapped_note",
        by_finding=[_fields("finding n followed followed_real")],
        swapped=_fields("n followed flipped unreadable"),
    ),
    text=[_fields(f"encoder {_EVIDENCE} n context truncated normalised")],
    memorisation=_fields(
        "false_match_rate n_train n_held_out n_generated share num_matches num_train_matched "
        "detects train_duplicates constant",
        spaces=[
            _fields(
                "name metric dimension threshold resolved false_matches same_patient_matches "
                "histogram"
            )
        ],
        controls=[_fields("kind n found traced rate must_find")],
        matches=[_fields("key index train_key space spaces distance own_patient")],
    ),
    labels=_fields(
        "labelled checked note",
        findings=[_fields("finding n agreement kappa sensitivity specificity")],
    ),
    comparison=_fields(
        "adjustment",
        generators=[_fields("name kind n model")],
        measures=[
            _fields(
                "measure subject subject_note aim real",
                values=[_fields("generator value difference_to_real")],
            )
        ],
        differences=[_fields("measure subject first second difference p p_adjusted")],
        chexgenbench=_fields(
            "comparable note", rows=[_fields("name fd recall coverage precision source ours")]
        ),
    ),
)
_NEVER_NULL = ("cohort", "protocol")


def with_nulls(results: Results) -> dict[str, Any]:
    """A copy in which every field that the templates read is there, null where it was absent.

    Lists are lists even where the results hold null; ``cohort`` and ``protocol`` are never null.
    """
    filled: dict[str, Any] = _fill({**results}, _SHAPE)
    for name in _NEVER_NULL:
        filled[name] = _fill(filled[name] or {}, _SHAPE[name])
    return filled


def _fill(value: Any, shape: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(shape, list):
        return [_fill(item, shape[0]) for item in value or []]
    if isinstance(shape, dict) and isinstance(value, Mapping):
        nested = {name: _fill(value.get(name), inner) for name, inner in shape.items()}
        return {**value, **nested}
    return value
