"""What training starts from: the earlier stages' folders, and what the run folder already holds."""

import json
from collections.abc import Sequence
from typing import Any

from arra_med.config import load, to_tree
from arra_med.errors import RequestError
from arra_med.model.backbones import pretrained_folder
from arra_med.settings import Settings, Training, section
from arra_med.store import (
    RUN_CONFIG,
    PreparedFolder,
    canonical_json,
    difference,
    fingerprint,
    sampled_sha256,
)
from arra_med.tokenizers.base import tokenizer_id
from arra_med.training.mixture import open_folder, open_folders
from arra_med.training.order import Order

RUN_RECORD = "run.json"
"""In the run folder: what the run is; the same command resumes it, another is refused."""
_LENGTH = ("epochs", "max_steps")
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


def recorded_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """The settings that a run was trained with, with its folder where it lies now.

    Args:
        settings: say where: ``paths.run``, by default in ``paths.output``. All else in them has no
            effect.
        overrides: of the command line, laid over the record.

    Raises:
        FileNotFoundError: if there is no run.
        RequestError: if the overrides do not fit the record.
    """
    run = settings.paths.folder("run")
    record = run / RUN_CONFIG
    if not record.is_file() or not (run / RUN_RECORD).is_file():
        raise FileNotFoundError(
            f"no run at {run} ({RUN_RECORD} is missing): run 'arra-med train', or name the run's "
            "paths.output"
        )
    where = {"output": settings.paths.output, "run": run}
    found = [f"paths.{name}={json.dumps(str(path))}" for name, path in where.items()]
    return load(Settings, record, [*overrides, *found])


def check_run_folder(
    settings: Settings,
    inputs: Inputs,
    *,
    remedy: str = _ANOTHER_FOLDER,
    may_be_longer: bool = False,
) -> dict[str, Any]:
    """What this run is, as JSON: all that its weights depend on.

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
        here = json.loads(canonical_json(identity))
        differing = difference(there, here)
        only_length = not difference(_without_length(there), _without_length(here))
        if differing and not (may_be_longer and only_length):
            raise RequestError(
                f"{folder} holds a run of another configuration; it differs in "
                f"{', '.join(differing)}. {remedy}"
            )
    return identity


def _without_length(identity: dict[str, Any]) -> dict[str, Any]:
    training = {k: v for k, v in identity["training"].items() if k not in _LENGTH}
    return identity | {"training": training}


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
