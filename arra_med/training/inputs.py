"""What training starts from: the earlier stages' folders, and what the run folder already holds."""

import json
from typing import Any, NamedTuple

from arra_med.config import to_tree
from arra_med.errors import RequestError
from arra_med.model.backbones import pretrained_folder
from arra_med.settings import Settings, Training, section
from arra_med.store import (
    PreparedFolder,
    canonical_json,
    difference,
    fingerprint,
    sampled_sha256,
)
from arra_med.tokenizers.base import tokenizer_id
from arra_med.training.mixture import open_folder, open_folders
from arra_med.training.order import Order
from arra_med.training.record import Move, read_record, without_length

_ANOTHER_FOLDER = "Choose another paths.run, or delete the folder."
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

    def total_steps(self, training: Training) -> int:
        """Optimizer steps of a whole run, for which no model need be built."""
        sizes = [len(folder.prepared.rows("train")) for folder in self.folders]
        order = Order(sizes, [folder.ratio for folder in self.folders], seed=0)
        return order.total_steps(training)


class RunIdentity(NamedTuple):
    """What a run is, as JSON: all that its weights depend on.

    Attributes:
        asked: as the settings say it.
        recorded: as its folder does, if that holds this run; it may say it by older names of
            places and without settings that came later. By default as asked.
        shorter: what the folder records, if the run there was begun with another length.
    """

    asked: dict[str, Any]
    recorded: dict[str, Any]
    shorter: dict[str, Any] | None = None


def check_run_folder(
    settings: Settings,
    inputs: Inputs,
    *,
    remedy: str = _ANOTHER_FOLDER,
    may_be_longer: bool = False,
) -> RunIdentity:
    """What this run is.

    Args:
        settings: of the run.
        inputs: that they name.
        remedy: what to do if the folder holds another run.
        may_be_longer: let it pass if ``epochs`` and ``max_steps`` alone differ.

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
    there = read_record(folder)
    if there is None:
        return RunIdentity(identity, identity)
    if identity["pretrained"] is None:  # a run that ended does not need it any more
        identity["pretrained"] = there.get("pretrained")
    here = json.loads(canonical_json(identity))
    before = there
    if difference(before, here) and (move := Move.of(settings)):
        before = move(there)
    differing = difference(before, here)
    if not differing:
        return RunIdentity(here, there)
    if may_be_longer and not difference(without_length(before), without_length(here)):
        return RunIdentity(here, here, shorter=there)
    raise RequestError(
        f"{folder} holds a run of another configuration; it differs in {', '.join(differing)}. "
        f"{remedy}"
    )


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
