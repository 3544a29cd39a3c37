"""A run that is trained for longer than it was begun with.

With a constant learning rate no step depends on the last one's number: a run whose
``training.max_steps`` or ``training.epochs`` is raised goes on from its newest checkpoint, and
learns what it would have learned had it been begun so. A cosine ends at zero where the run was to
end; to go on after it is another run, which starts from the export.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from arra_med.errors import RequestError
from arra_med.model.exported import ARRA
from arra_med.settings import Settings, section
from arra_med.training.checkpoints import complete_checkpoints, read_json
from arra_med.training.export import already_exported, export_of_step
from arra_med.training.inputs import Inputs
from arra_med.training.record import LENGTH

logger = logging.getLogger(__name__)


def check_can_be_longer(settings: Settings, inputs: Inputs, there: Mapping[str, Any]) -> None:
    """Refuse what cannot go on beyond its end, or would not.

    Args:
        settings: of the longer run.
        inputs: that they name.
        there: what the folder records of the run,
            :attr:`arra_med.training.inputs.RunIdentity.shorter`.

    Raises:
        RequestError: with what to do instead.
    """
    run = settings.paths.folder("run")
    training = section(settings.training, "training", "train")
    if training.schedule != "constant":
        raise RequestError(
            "training.schedule is cosine: the learning rate of every step depends on where the run "
            f"ends, so that the run in {run} can have no other length. {_begin_anew(settings)}"
        )
    if not complete_checkpoints(run / "checkpoints"):
        raise RequestError(
            f"the run in {run} cannot go on: none of its checkpoints is there any more. "
            f"{_begin_anew(settings)}"
        )
    length = {name: there["training"][name] for name in LENGTH if name in there["training"]}
    before, now = inputs.total_steps(replace(training, **length)), inputs.total_steps(training)
    if now <= before:
        remedy = "raise the other too"
        if now < before:
            remedy = "'arra-med export --checkpoint' makes a model of an earlier step"
        raise RequestError(
            f"training.epochs={training.epochs} and training.max_steps={training.max_steps} make "
            f"{now} steps, the run in {run} has {before}: {remedy}"
        )
    _refuse_to_replace_export(settings, there)


def set_export_aside(settings: Settings, there: Mapping[str, Any]) -> None:
    """Rename the export that a run's earlier end left in its folder: the run has not ended now.

    Args:
        settings: of the run.
        there: what the folder recorded of it until now.
    """
    export = settings.paths.folder("export")
    if already_exported(export, there):
        aside = _aside(settings)
        logger.info("the run goes on: its export so far is now %s", aside)
        export.rename(aside)


def how_to_go_on(settings: Settings) -> str:
    """What to tell the user of a run that has ended."""
    constant = section(settings.training, "training", "train").schedule == "constant"
    if constant and complete_checkpoints(settings.paths.folder("run") / "checkpoints"):
        return "To train it for longer, raise training.max_steps or training.epochs"
    return _begin_anew(settings)


def _refuse_to_replace_export(settings: Settings, there: Mapping[str, Any]) -> None:
    """Refuse to replace an export that lies where the user said."""
    export = settings.paths.folder("export")
    if not already_exported(export, there):
        return
    if settings.paths.export is not None:
        raise RequestError(
            f"{export} holds the run's export so far: choose another folder with paths.export for "
            "that of the longer run, or delete it"
        )
    if (aside := _aside(settings)).exists():
        raise RequestError(f"the run's export so far would be renamed to {aside}: delete that one")


def _aside(settings: Settings) -> Path:
    steps = int(read_json(settings.paths.folder("export") / ARRA)["trained_on"]["steps"])
    return export_of_step(settings.paths.folder("run"), steps)


def _begin_anew(settings: Settings) -> str:
    run = settings.paths.folder("run")
    exports = [settings.paths.folder("export"), *sorted(run.glob("export-step-*"), reverse=True)]
    export = next((str(path) for path in exports if (path / ARRA).is_file()), None)
    written = ""
    if export is None:
        if not complete_checkpoints(run / "checkpoints"):
            return f"To train from the beginning, choose another paths.run, or delete {run}"
        export, written = "FOLDER", ", which 'arra-med export' writes to the FOLDER that it prints,"
    backbone = section(settings.backbone, "backbone", "train")
    llama = "" if backbone.llama is None else " backbone.llama=null"
    return (
        f"To train on from its weights, begin another run from its export{written} in another "
        f"paths.run: backbone.pretrained={export}{llama}"
    )
