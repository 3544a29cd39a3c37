"""What training starts from: the earlier stages' folders, and what the run folder already holds."""

import json
from typing import Any

from arra_med.config import to_tree
from arra_med.errors import RequestError
from arra_med.settings import Settings, section
from arra_med.store import Cache, PreparedFolder, canonical_json, difference
from arra_med.teachers.cache import open_features
from arra_med.tokenizers.base import tokenizer_id
from arra_med.tokenizers.cache import open_tokens

RUN_RECORD = "run.json"
"""In the run folder: what the run is; the same command resumes it, another is refused."""


class Inputs:
    """What the stages before training left, opened and checked.

    Attributes:
        prepared: the prepared folder.
        tokens: its codes.
        features: its teacher vectors; ``None`` without alignment.
    """

    def __init__(self, settings: Settings) -> None:
        self.prepared = PreparedFolder(settings.paths.folder("prepared"))
        self.tokens = open_tokens(self.prepared, settings.paths.folder("tokenizer"))
        self.features: Cache | None = None
        if settings.alignment.enabled and settings.alignment.weight > 0:
            features = section(settings.features, "features", "train")
            self.features = open_features(features, self.prepared)


def check_run_folder(settings: Settings, inputs: Inputs) -> dict[str, Any]:
    """What this run is, as JSON: all that its weights depend on.

    Raises:
        RequestError: if the run folder holds a run of another configuration.
    """
    folder = settings.paths.folder("run")
    tree = to_tree(settings)
    names = ("seed", "backbone", "alignment", "training", "features")
    identity: dict[str, Any] = {
        **{name: tree[name] for name in names},
        "prepared": inputs.prepared.content_hash,
        "image_tokenizer": tokenizer_id(settings.paths.folder("tokenizer")),
    }
    record = folder / RUN_RECORD
    if record.is_file():
        there = json.loads(record.read_text("utf-8"))
        differing = difference(there, json.loads(canonical_json(identity)))
        if differing:
            raise RequestError(
                f"{folder} holds a run of another configuration; it differs in "
                f"{', '.join(differing)}. Choose another paths.run, or delete the folder."
            )
    return identity
