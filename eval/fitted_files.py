"""The folder of a network that evaluation fits: ``model.safetensors`` and ``config.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from arra_med.errors import RequestError
from arra_med.schema import SPLITS
from arra_med.store import (
    PreparedFolder,
    canonical_json,
    difference,
    sha256_bytes,
    sha256_file,
    write_atomic,
)

WEIGHTS, CONFIG = "model.safetensors", "config.json"
LEARNED_FROM = "learned_from"
"""Entry of the configuration: hashes of the pictures and patients that the network learned from."""

_DIGITS = 16  # of a hash: 64 bits tell all pictures of a collection apart

_AGAIN = "delete the folder, 'arra-med evaluate' fits it again"


def missing_files(folder: Path) -> list[str]:
    """Names of those of the two files that are not there yet."""
    return [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]


def save_fitted(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    prepared: PreparedFolder,
) -> None:
    """Write both files; no moment shows weights with another's configuration.

    Args:
        folder: theirs.
        tensors: the weights.
        config: what the network was fitted with.
        prepared: the folder on whose training split it was fitted.
    """
    weights = safetensors.torch.save(dict(tensors))
    (folder / CONFIG).unlink(missing_ok=True)
    write_atomic(folder / WEIGHTS, weights)
    whole = {
        **config,
        LEARNED_FROM: source_hashes(prepared)["train"],
        "weights_sha256": sha256_bytes(weights),
    }
    write_atomic(folder / CONFIG, canonical_json(whole).encode())


def source_hashes(prepared: PreparedFolder) -> dict[str, dict[str, list[str]]]:
    """Split → its ``pictures`` and ``patients`` as hashes, each sorted and without repetition.

    They are equal wherever a source was prepared again, at another size or split otherwise. A
    picture is its source file's bytes. A patient is the identifier within its data set; drawn
    collections (``seed`` among the data set's options) number the patients of every seed alike.
    """
    dataset: Mapping[str, Any] = prepared.manifest["config"]["dataset"]
    collection = [dataset["name"], dataset.get("seed")]
    pictures: dict[str, set[str]] = {split: set() for split in SPLITS}
    patients: dict[str, set[str]] = {split: set() for split in SPLITS}
    for row in prepared.samples.select(["split", "source_sha256", "patient_id"]).to_pylist():
        pictures[row["split"]].add(str(row["source_sha256"])[:_DIGITS])
        patients[row["split"]].add(canonical_json([*collection, row["patient_id"]]))
    return {
        split: {
            "pictures": sorted(pictures[split]),
            "patients": sorted(sha256_bytes(one.encode())[:_DIGITS] for one in patients[split]),
        }
        for split in SPLITS
    }


def learned_from(folder: Path) -> dict[str, list[str]] | None:
    """The :func:`source_hashes` of fitted weights; ``None`` if an older version wrote them."""
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    found: dict[str, list[str]] | None = config.get(LEARNED_FROM)
    return found


def load_fitted(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder that :func:`read_fitted` has checked."""
    tensors: dict[str, Tensor] = safetensors.torch.load_file(folder / WEIGHTS)
    return tensors


def read_fitted(folder: Path, what: str, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of fitted weights.

    Args:
        folder: theirs.
        what: kind and name, for messages: ``judge 'cnn'``.
        expected: entries that the configuration must have: its ``options``, say.

    Raises:
        FileNotFoundError: if they are not there.
        RequestError: if they are damaged, or something else was expected.
    """
    absent = missing_files(folder)
    if absent:
        raise FileNotFoundError(
            f"no {what} in {folder}: {' and '.join(absent)} missing; 'arra-med evaluate' fits it "
            "on the prepared folder"
        )
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    for name, value in expected.items():
        asked = json.loads(canonical_json(value))
        if differing := difference({name: config[name]}, {name: asked}):
            raise RequestError(
                f"{what} in {folder} was fitted otherwise; it differs in {', '.join(differing)}: "
                f"name another folder, or {_AGAIN}"
            )
    if sha256_file(folder / WEIGHTS) != config["weights_sha256"]:
        raise RequestError(f"{folder / WEIGHTS} is not the file that {CONFIG} describes: {_AGAIN}")
    return config
