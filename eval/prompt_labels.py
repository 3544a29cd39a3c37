"""Labels of prompts from their text, where the data set has none, and how far the two agree."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.metrics import cohen_kappa_score

from arra_med.datasets.labeller import label_text
from arra_med.schema import CHEXPERT_LABELS, PRESENT

LabelSource = Literal["dataset", "prompt"]


def with_labels(
    samples: Sequence[Mapping[str, Any]], source: LabelSource
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Samples with labels of their prompts' text where they are to have them.

    Args:
        samples: rows of ``samples.parquet``.
        source: ``dataset`` keeps the data set's labels and reads the text of samples that have none
            at all; ``prompt`` reads the text of all.

    Returns:
        The samples, and the results file's section ``labels``: ``None`` if the data set's labels are
        not CheXpert's findings, which are all that the labeller knows.
    """
    names = [name for name in samples[0]["labels"] if name in CHEXPERT_LABELS]
    if not names:
        return [dict(sample) for sample in samples], None
    read = [label_text(str(sample["prompt"])) for sample in samples]
    bare = [all(value is None for value in sample["labels"].values()) for sample in samples]
    labelled = [source == "prompt" or empty for empty in bare]
    result = [
        {**sample, "labels": {**sample["labels"], **{name: said[name] for name in names}}}
        if replaced
        else dict(sample)
        for sample, said, replaced in zip(samples, read, labelled, strict=True)
    ]
    checked = [i for i, empty in enumerate(bare) if not empty]
    rows = [_agreement(name, [samples[i]["labels"][name] for i in checked],
                       [read[i][name] for i in checked]) for name in names]  # fmt: skip
    return result, {
        "labelled": sum(labelled),
        "checked": len(checked),
        "findings": [row for row in rows if row["n"]],
        "note": None if checked else "the data set has no labels to compare the labeller with",
    }


def _agreement(
    name: str, columns: Sequence[int | None], read: Sequence[int | None]
) -> dict[str, Any]:
    """The labeller against the data set where either says something, unknown being a value too."""
    pairs = [(a, b) for a, b in zip(columns, read, strict=True) if (a, b) != (None, None)]
    theirs, ours = (np.array([str(value) for value in side]) for side in zip(*pairs, strict=True)
                    ) if pairs else (np.array([]), np.array([]))  # fmt: skip
    present, said = theirs == str(PRESENT), ours == str(PRESENT)
    several = len(set(theirs.tolist()) | set(ours.tolist())) > 1
    return {
        "finding": name,
        "n": len(pairs),
        "agreement": float((theirs == ours).mean()) if pairs else None,
        "kappa": float(cohen_kappa_score(theirs, ours)) if several else None,
        "sensitivity": float(said[present].mean()) if present.any() else None,
        "specificity": float((~said[~present]).mean()) if (~present).any() else None,
    }
