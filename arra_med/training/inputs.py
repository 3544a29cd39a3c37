"""What training starts from: the earlier stages' folders, and what the run folder already holds."""

import json
from typing import Any

from arra_med.config import to_tree
from arra_med.errors import RequestError
from arra_med.model.backbones import pretrained_folder
from arra_med.settings import Settings, section
from arra_med.store import (
    PreparedFolder,
    canonical_json,
    difference,
    fingerprint,
    sampled_sha256,
)
from arra_med.tokenizers.base import tokenizer_id
from arra_med.training.mixture import open_folder, open_folders

RUN_RECORD = "run.json"
"""In the run folder: what the run is; the same command resumes it, another is refused."""
_MODEL_FILES = (".safetensors", ".bin", ".json", ".model", ".txt")


class Inputs:
    """What the stages before training left, opened and checked.

    Attributes:
        main: ``paths.prepared`` with its tokens and features, whose validation split is
            validated on.
        prepared: the folder of ``main``.
        tokens: its codes.
        features: its teacher vectors; ``None`` without alignment.
        folders: those to train on; without a mixture the prepared folder alone.
        image_tokenizer: identity of the image tokenizer that made the codes.
    """

    def __init__(self, settings: Settings) -> None:
        self.prepared = PreparedFolder(settings.paths.folder("prepared"))
        self.main = main = open_folder(settings, self.prepared)
        self.tokens, self.features = main.tokens, main.features
        training = section(settings.training, "training", "train")
        self.folders = open_folders(settings, training, main)
        self.image_tokenizer = tokenizer_id(settings.paths.folder("tokenizer"))


def check_run_folder(settings: Settings, inputs: Inputs) -> dict[str, Any]:
    """What this run is, as JSON: all that its weights depend on.

    Raises:
        RequestError: if the run folder holds a run of another configuration.
    """
    folder = settings.paths.folder("run")
    tree = to_tree(settings, compared=True)
    for name in ("mixture", "data_config"):  # where folders are; "folders" says what they hold
        del tree["training"][name]
    names = ("seed", "backbone", "alignment", "training", "features")
    identity: dict[str, Any] = {
        **{name: tree[name] for name in names},
        "prepared": inputs.prepared.content_hash,
        "folders": [folder.identity() for folder in inputs.folders],
        "image_tokenizer": inputs.image_tokenizer,
        "pretrained": _pretrained(settings),
    }
    record = folder / RUN_RECORD
    if record.is_file():
        try:
            there = json.loads(record.read_text("utf-8"))
        except ValueError as error:
            raise RequestError(
                f"{record} is damaged ({error}): choose another paths.run, or delete {folder}, "
                "checkpoints and all"
            ) from error
        if identity["pretrained"] is None:  # a run that ended does not need it any more
            identity["pretrained"] = there.get("pretrained")
        differing = difference(there, json.loads(canonical_json(identity)))
        if differing:
            raise RequestError(
                f"{folder} holds a run of another configuration; it differs in "
                f"{', '.join(differing)}. Choose another paths.run, or delete the folder."
            )
    return identity


def _pretrained(settings: Settings) -> str | None:
    """Names the model that training starts from by its files; ``None`` if there is none there."""
    backbone = section(settings.backbone, "backbone", "train")
    if backbone.pretrained is None:
        return None
    try:
        folder = pretrained_folder(backbone.pretrained)
    except FileNotFoundError:  # said by whoever opens it
        return None
    files = [path for path in sorted(folder.iterdir()) if path.suffix in _MODEL_FILES]
    return fingerprint([[path.name, sampled_sha256(path)] for path in files])
