"""Small files of published models: JSON objects, and the lists of a checkpoint's shards."""

import json
from pathlib import Path
from typing import Any

from arra_med.errors import RequestError

PIPELINE = "model_index.json"
"""At the root of a pipeline as diffusers saves it."""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RequestError: if the file holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} is not JSON: {error}. Download it again") from error
    if not isinstance(value, dict):
        raise RequestError(f"{path} holds no JSON object: download it again")
    return value


def read_shards(index: Path) -> dict[str, Path]:
    """The file of each tensor, from an ``….index.json`` as transformers writes it.

    Whether the files are there is the caller's to say.

    Raises:
        RequestError: if it is not such a list.
    """
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise RequestError(f"{index} is not a list of shards (no weight_map): download it again")
    return {tensor: index.parent / name for tensor, name in listed.items()}
