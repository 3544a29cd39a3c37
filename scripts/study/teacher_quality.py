"""What a trained teacher sees: linear probes and retrieval on the validation split.

    python scripts/study/teacher_quality.py TEACHER PREPARED [--with-text]

prints it as JSON; ``train_teacher.py`` writes it of every teacher that it trains. Everything is
read through the package's own loaders from the saved folder, so that it is the files that are
judged.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import exit_status
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.eval.laterality import FRONTAL_VIEWS
from arra_med.parallel import available_cores
from arra_med.picture_loader import Transform, load_keys
from arra_med.registry import IMAGE_TEXT_ENCODERS, TEACHERS
from arra_med.schema import PRESENT
from arra_med.settings import Features
from arra_med.sides import SIDES, Side, asked_sides
from arra_med.store import PreparedFolder
from arra_med.teachers.cache import teacher_model

TEACHER = "biomedclip"
FEWEST = 10  # present and absent pictures a finding must have, in both splits
REGULARISATION = 0.1  # sklearn's C
TOP = (1, 5)
_BATCH = 256
_WORKERS = 4  # more take longer to start than they save

Rows = Sequence[Mapping[str, Any]]


def main() -> None:
    """Judge a teacher on the pictures of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("teacher", type=Path, metavar="TEACHER", help="folder in BiomedCLIP's format")
    add("prepared", type=Path, metavar="PREPARED", help="folder that ingest wrote")
    add("--with-text", action="store_true", help="retrieval of prompts too")
    options = parser.parse_args()
    if not options.teacher.is_dir():  # the loader would speak of BiomedCLIP's published weights
        raise RequestError(f"there is no folder {options.teacher}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepared = PreparedFolder(options.prepared)
    quality = judge_teacher(options.teacher, prepared, device, with_text=options.with_text)
    print(json.dumps(quality, indent=2))


def judge_teacher(
    folder: Path, prepared: PreparedFolder, device: torch.device, *, with_text: bool
) -> dict[str, Any]:
    """Quality on the validation split.

    Args:
        folder: the teacher.
        prepared: whose training split the probes are fitted on.
        device: for the encoders.
        with_text: whether retrieval of prompts is measured too.

    Returns:
        By ``cls`` and ``mean``: ``auroc`` by finding, ``macro_auroc`` (``None`` without a finding),
        ``view_accuracy`` and ``view_majority``, the share of the commonest view (both ``None``
        without two views), ``side`` by finding and ``side_accuracy``, and how much the vectors
        differ; with text, also ``retrieval``.
    """
    options = TEACHERS.get(TEACHER).Options(weights=folder)
    teacher = teacher_model(Features(teacher=PluginConfig(name=TEACHER, options=options)))
    train, validate = prepared.rows("train"), prepared.rows("validate")
    of_train, of_validate = (
        _vectors(teacher.to(device), teacher.transform, prepared, rows, device)
        for rows in (train, validate)
    )
    quality: dict[str, Any] = {"pictures": {"train": len(train), "validate": len(validate)}}
    for name, vectors in of_train.items():
        split = (vectors, train, of_validate[name], validate)
        quality[name] = {
            **_probe_findings(prepared.label_names, *split),
            **_probe_view(*split),
            **_probe_sides(prepared.label_names, *split),
            **_spread(vectors),
        }
    if with_text:
        quality["retrieval"] = _retrieval(folder, prepared, validate, device)
    return quality


def _vectors(
    encode: Callable[[Tensor], Tensor | Mapping[str, Tensor]],
    transform: Transform,
    prepared: PreparedFolder,
    rows: Rows,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """``(N, D)`` float32 by aggregation, in the order of ``rows``."""
    keys: list[str] = []
    batches: list[Mapping[str, Tensor]] = []
    workers = min(_WORKERS, available_cores()) if device.type == "cuda" else 0
    wanted = [row["key"] for row in rows]
    with torch.inference_mode():
        for batch in load_keys(prepared, wanted, transform, batch_size=_BATCH, workers=workers):
            given = encode(batch.pixels.to(device))
            named = {"vector": given} if isinstance(given, Tensor) else given
            batches.append({name: vectors.float().cpu() for name, vectors in named.items()})
            keys += batch.keys
    place = {key: index for index, key in enumerate(keys)}
    order = [place[key] for key in wanted]
    return {
        name: torch.cat([batch[name] for batch in batches]).numpy()[order] for name in batches[0]
    }


def _spread(vectors_ND: np.ndarray) -> dict[str, float]:
    """How much the vectors differ from picture to picture: what alignment can ask for.

    ``constant_loss``: mean 1 - cos of the best constant answer, 0 if all vectors point the same
    way. ``dimensions``: participation ratio of their covariance, (Σλ)² / Σλ².
    """
    unit = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(np.cov(vectors_ND.astype(np.float64).T))
    return {
        "constant_loss": float(1 - np.linalg.norm(unit.mean(axis=0))),
        "dimensions": float(variances.sum() ** 2 / (variances**2).sum()),
    }


def _probe() -> Any:  # noqa: ANN401 - sklearn is not typed
    return make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=2000))


def _probe_findings(
    names: Sequence[str], train_ND: np.ndarray, train: Rows, test_ND: np.ndarray, test: Rows
) -> dict[str, Any]:
    """AUROC of each finding that is often enough present and absent; others are left out."""
    scores: dict[str, float] = {}
    for name in names:
        labels = [known_labels(rows, [name])[:, 0] for rows in (train, test)]
        if any((values == value).sum() < FEWEST for values in labels for value in (0, 1)):
            continue
        fitted, held_out = labels
        probe = _probe().fit(train_ND[fitted >= 0], fitted[fitted >= 0])
        known = held_out >= 0
        given = probe.decision_function(test_ND[known])
        scores[name] = float(roc_auc_score(held_out[known], given))
    macro = float(np.mean(list(scores.values()))) if scores else None
    return {"macro_auroc": macro, "auroc": scores}


def known_labels(rows: Rows, names: Sequence[str]) -> np.ndarray:
    """``(N, F)`` int64: 1 present, 0 absent, -1 uncertain or unknown."""
    given = [[row["labels"][name] for name in names] for row in rows]
    return np.array([[-1 if value is None else value for value in row] for row in given])


def _probe_view(
    train_ND: np.ndarray, train: Rows, test_ND: np.ndarray, test: Rows
) -> dict[str, float | None]:
    """Accuracy of a probe for the view, and the share of the commonest one."""
    fitted, held_out = (np.array([row["view"] or "" for row in rows]) for rows in (train, test))
    named = held_out != ""
    if len(set(fitted) - {""}) < 2 or not named.any():
        return {"view_accuracy": None, "view_majority": None}
    probe = _probe().fit(train_ND[fitted != ""], fitted[fitted != ""])
    right = probe.predict(test_ND[named]) == held_out[named]
    counts = np.unique(held_out[named], return_counts=True)[1]
    return {
        "view_accuracy": float(right.mean()),
        "view_majority": float(counts.max() / counts.sum()),
    }


def _probe_sides(
    names: Sequence[str], train_ND: np.ndarray, train: Rows, test_ND: np.ndarray, test: Rows
) -> dict[str, Any]:
    """Whether a probe tells the side of a finding, on frontal films that show it on one side.

    Balanced accuracy, so that chance is 0.5, by finding and their mean; findings that are too
    seldom on either side are left out.
    """
    fitted, held_out = (_sides(rows, names) for rows in (train, test))
    scores: dict[str, float] = {}
    for name in names:
        of_train, of_test = (
            {place: sides[name] for place, sides in enumerate(every) if name in sides}
            for every in (fitted, held_out)
        )
        counts = [
            list(every.values()).count(side) for every in (of_train, of_test) for side in SIDES
        ]
        if min(counts) < FEWEST:
            continue
        probe = _probe().fit(train_ND[list(of_train)], list(of_train.values()))
        given = probe.predict(test_ND[list(of_test)])
        scores[name] = float(balanced_accuracy_score(list(of_test.values()), given))
    mean = float(np.mean(list(scores.values()))) if scores else None
    return {"side_accuracy": mean, "side": scores}


def _sides(rows: Rows, names: Sequence[str]) -> list[dict[str, Side]]:
    """Of each picture, the findings that it shows on one side, read as evaluation reads them."""
    present = [[name for name in names if row["labels"][name] == PRESENT] for row in rows]
    return [
        asked_sides(row["prompt"], found) if row["view"] in FRONTAL_VIEWS else {}
        for row, found in zip(rows, present, strict=True)
    ]


def _retrieval(
    folder: Path, prepared: PreparedFolder, rows: Rows, device: torch.device
) -> dict[str, float | int]:
    """How often a picture's own prompt is among the best 1 and 5 of all that the split has."""
    plugin = IMAGE_TEXT_ENCODERS.get(TEACHER)
    encoder = plugin(plugin.Options(weights=folder)).to(device)
    image = _vectors(encoder, encoder.transform, prepared, rows, device)["vector"]
    prompts = sorted({row["prompt"] for row in rows})
    place = {prompt: index for index, prompt in enumerate(prompts)}
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    cosines = image @ encoder.encode_texts(prompts).vectors.T
    own = cosines[np.arange(len(rows)), [place[row["prompt"]] for row in rows]]
    rank = (cosines >= own[:, None]).sum(axis=1)  # ties count against it
    recalls = {f"recall@{top}": float((rank <= top).mean()) for top in TOP}
    return {"prompts": len(prompts), "chance@1": 1 / len(prompts), **recalls}


if __name__ == "__main__":
    sys.exit(exit_status(main))
