"""The folder of a network that evaluation fits: ``model.safetensors`` and ``config.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from arra_med.errors import RequestError
from arra_med.store import canonical_json, sha256_bytes, sha256_file, write_atomic

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_AGAIN = "delete the folder, 'arra-med evaluate' fits it again"


def missing_files(folder: Path) -> list[str]:
    """Names of those of the two files that are not there yet."""
    return [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]


def save_fitted(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write both files; no moment shows weights with another's configuration."""
    weights = safetensors.torch.save(dict(tensors))
    (folder / CONFIG).unlink(missing_ok=True)
    write_atomic(folder / WEIGHTS, weights)
    whole = {**config, "weights_sha256": sha256_bytes(weights)}
    write_atomic(folder / CONFIG, canonical_json(whole).encode())


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
        if canonical_json(config[name]) != canonical_json(value):
            raise RequestError(
                f"{what} in {folder} was fitted with {name} {config[name]}, asked for {value}: "
                f"name another folder, or {_AGAIN}"
            )
    if sha256_file(folder / WEIGHTS) != config["weights_sha256"]:
        raise RequestError(f"{folder / WEIGHTS} is not the file that {CONFIG} describes: {_AGAIN}")
    return config
