"""Labels of prompts that have none, read from their text, and how far such labels can be trusted.

Where a data set has labels of its own, the labeller is measured against them; its figures stand in
the report beside whatever rests on its labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from arra_med.datasets.labeller import is_english, label_text
from arra_med.eval.formatting import counted
from arra_med.schema import CHEXPERT_LABELS, PRESENT, UNCERTAIN

Sample = Mapping[str, Any]
Mode = Literal["dataset", "prompt"]


def with_labels(
    samples: Sequence[Sample], mode: Mode
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Samples with labels, those that have none filled in from their prompts.

    Only labels with CheXpert's names are filled in or checked; others stay as they are.

    Args:
        samples: rows of a prepared folder: ``prompt`` and ``labels``; not changed.
        mode: ``dataset`` fills in samples whose labels are all unknown, ``prompt`` replaces
            everybody's.

    Returns:
        The samples, in order, and the results file's section ``labels``: ``labelled``, samples
        whose labels are now the labeller's; ``checked``, samples with labels of their own; and for
        each finding that those know anything of, agreement on "present" over them, Cohen's kappa,
        sensitivity and specificity. What a label of their own leaves open counts as not present,
        as CheXpert's blanks mean not mentioned; where it is uncertain the sample is left out.
    """
    read = [_own_names(sample, label_text(str(sample["prompt"]))) for sample in samples]
    unknown = [all(value is None for value in sample["labels"].values()) for sample in samples]
    replace = [bool(new) and (none or mode == "prompt")
               for new, none in zip(read, unknown, strict=True)]  # fmt: skip
    filled = [
        {**sample, "labels": {**sample["labels"], **new}} if replaced else dict(sample)
        for sample, new, replaced in zip(samples, read, replace, strict=True)
    ]
    checked = [
        (sample["labels"], new)
        for sample, new, none in zip(samples, read, unknown, strict=True)
        if new and not none
    ]
    section = {
        "labelled": sum(replace),
        "checked": len(checked),
        "findings": _findings(checked),
        "note": _note(samples, read, checked),
    }
    return filled, section


def _own_names(sample: Sample, labels: Mapping[str, int | None]) -> dict[str, int | None]:
    """The labels read from a prompt, those whose names the sample's labels have."""
    return {name: labels[name] for name in sample["labels"] if name in labels}


def _note(
    samples: Sequence[Sample], read: Sequence[Mapping[str, Any]], checked: Sequence[object]
) -> str:
    if samples and not any(read):
        return "the labels are not CheXpert's, so no label is read from a prompt"
    notes = []
    if foreign := sum(not is_english(str(sample["prompt"])) for sample in samples):
        notes.append(
            f"{counted(foreign, 'prompt is', 'prompts are')} not in English, which the labeller "
            "cannot read: no label is taken from there"
        )
    if not checked:
        notes.append(
            "no sample has labels of its own, so the labeller was not measured on these prompts"
        )
    return "; ".join(notes)


def _findings(
    checked: Sequence[tuple[Mapping[str, int | None], Mapping[str, int | None]]],
) -> list[dict[str, Any]]:
    rows = []
    for name in CHEXPERT_LABELS:
        pairs = [(own[name], new[name]) for own, new in checked if name in new]
        if all(own is None for own, _ in pairs):
            continue
        said = [(own == PRESENT, new == PRESENT) for own, new in pairs if own != UNCERTAIN]
        table = np.zeros((2, 2))
        for own, new in said:
            table[int(own), int(new)] += 1
        rows.append({"finding": name, "n": len(said), **_agreement(table)})
    return rows


def _agreement(table: NDArray[np.float64]) -> dict[str, float | None]:
    """Of a 2 × 2 table of counts, own label by label read, not present before present.

    Kappa is (p - q) / (1 - q), p the agreement and q that of independent labels (Cohen, 1960).
    """
    total = table.sum()
    agreement = _share(np.trace(table), total)
    kappa = None
    if agreement is not None:
        chance = float(table.sum(axis=1) @ table.sum(axis=0)) / float(total) ** 2
        kappa = (agreement - chance) / (1 - chance) if chance < 1 else None
    return {
        "agreement": agreement,
        "kappa": kappa,
        "sensitivity": _share(table[1, 1], table[1].sum()),
        "specificity": _share(table[0, 0], table[0].sum()),
    }


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
