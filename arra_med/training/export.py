"""The export of a run: at its end from the engine, at any time from a checkpoint's files.

A checkpoint is read without a GPU and without the processes that wrote it. Of ZeRO 0 to 2 it holds
whole weights; of stage 3 each rank's share of the fp32 ones, which DeepSpeed's ``zero_to_fp32``
puts together and which are rounded as training rounds them.
"""

import contextlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arra_med.errors import RequestError, WorkError
from arra_med.model.export import write_export
from arra_med.model.exported import ARRA
from arra_med.model.lora import merged_state, remove_lora
from arra_med.model.precision import DTYPES
from arra_med.settings import Settings, section
from arra_med.store import MANIFEST, check_files, fingerprint
from arra_med.training.checkpoints import (
    best_checkpoint,
    checkpoint_name,
    complete_checkpoints,
    damage,
    read_json,
    read_mark,
)
from arra_med.training.inputs import Inputs, check_run_folder
from arra_med.training.record import without_length
from arra_med.training.setup import Setup

logger = logging.getLogger(__name__)

_BACKBONE = "backbone."
_AS_TRAINED = (
    "An export has the settings that the run was trained with, which its folder records: leave "
    "out what says otherwise, and link files that have moved to where they were."
)


def export(settings: Settings, *, checkpoint: str | None = None) -> Path:
    """Write the export of a checkpoint.

    Args:
        settings: the run's, which :func:`arra_med.training.record.recorded_settings` reads.
        checkpoint: its name, or ``best`` for the lowest validation loss; by default the newest.

    Returns:
        The export's folder: ``paths.export`` if given; else ``export`` in the run's folder for the
        last step, and ``export-step-…`` for one before.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        RequestError: if the folder holds an export of another run or another step.
        WorkError: if the checkpoint is damaged.
    """
    run = settings.paths.folder("run")
    inputs = Inputs(settings)
    identity = check_run_folder(settings, inputs, remedy=_AS_TRAINED).recorded
    path = _chosen(run / "checkpoints", checkpoint)
    mark = read_mark(path)
    step = int(mark["step"])
    folder = settings.paths.folder("export")
    end = inputs.total_steps(section(settings.training, "training", "export"))
    if settings.paths.export is None and step < end:
        folder = export_of_step(run, step)
    if already_exported(folder, identity, step):
        logger.info("%s is already done", folder)
        return folder
    if found := damage(path, list(mark["files"])):
        raise WorkError(f"{path} is damaged: {found}. Choose another with --checkpoint")
    setup = Setup(settings, inputs)
    write(setup, _backbone_state(setup, path, int(mark["zero_stage"])), step, folder)
    return folder


def export_of_step(run: Path, step: int) -> Path:
    """Where the export of a step before a run's last goes by default."""
    return run / f"export-{checkpoint_name(step)}"


def write(setup: Setup, state: dict[str, Tensor], step: int, folder: Path) -> None:
    """Write an export.

    Args:
        setup: of the run; LoRA's modules are taken out of its backbone.
        state: the backbone's weights, whole; LoRA's are merged.
        step: optimizer step they are of.
        folder: where.
    """
    backbone = setup.model.backbone
    if setup.backbone.lora is not None:
        state = merged_state(backbone, state)
        remove_lora(backbone)
    write_export(
        folder,
        model=backbone,
        state_dict=state,
        text_tokenizer=setup.text_tokenizer,
        image_tokenizer=setup.tokenizer_folder,
        layout=setup.layout,
        info=setup.info(step),
    )


def already_exported(folder: Path, identity: Mapping[str, Any], step: int | None = None) -> bool:
    """Whether a folder holds what would be exported to it, whole.

    Args:
        folder: of the export.
        identity: of the run.
        step: optimizer step; by default the run's last. The export of a step that is given may
            be of the time when the run was shorter, if no learning rate depends on its end.

    Raises:
        RequestError: if it holds another export.
        FileNotFoundError: if a file of it is missing.
    """
    if not (folder / MANIFEST).is_file():
        return False
    there = read_json(folder / ARRA)["trained_on"]
    holds = None
    same = there.get("run") == fingerprint(identity)
    if step is not None and identity["training"]["schedule"] == "constant":
        same |= there.get("run_of_any_length") == fingerprint(without_length(identity))
    if not same:
        holds = "an export of another run"
    elif there["steps"] != (wanted := there["total_steps"] if step is None else step):
        holds = f"the export of step {there['steps']}, this would be step {wanted}"
    if holds:
        raise RequestError(
            f"{folder} holds {holds}: delete it, or choose another folder with paths.export"
        )
    check_files(folder, "export")
    return True


def _chosen(folder: Path, name: str | None) -> Path:
    found = complete_checkpoints(folder)
    chosen = {path.name: path for path in found}.get(name or "")
    if found and name is None:
        chosen = found[-1]
    elif name == "best":
        chosen = best_checkpoint(found)
    if chosen is None:
        raise FileNotFoundError(
            f"no checkpoint {name or ''} in {folder}; there are "
            f"{', '.join(path.name for path in found) or 'none'}"
            + (", none with a validation loss" if name == "best" and found else "")
        )
    return chosen


def _backbone_state(setup: Setup, path: Path, zero_stage: int) -> dict[str, Tensor]:
    """The backbone's weights in a checkpoint, whole, in the precision of training."""
    model = setup.model.to(DTYPES[setup.training.precision])
    state = dict(model.backbone.state_dict())  # what is frozen is in no checkpoint
    saved = _zero3_weights(path) if zero_stage == 3 else whole_weights(path)
    for name, tensor in saved.items():
        if name.startswith(_BACKBONE):
            known = name.removeprefix(_BACKBONE)
            if known not in state or state[known].shape != tensor.shape:
                raise RequestError(
                    f"{path} is of another model: {known} is not the same in this configuration's"
                )
            state[known] = tensor.to(state[known].dtype)
    return state


def whole_weights(path: Path) -> dict[str, Tensor]:
    """Weights of the whole model in a checkpoint of ZeRO 0 to 2, on the CPU, read when used."""
    file = path / "mp_rank_00_model_states.pt"
    module: dict[str, Tensor] = torch.load(file, map_location="cpu", mmap=True, weights_only=True)[
        "module"
    ]
    return module


def _zero3_weights(path: Path) -> dict[str, Tensor]:
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
        weights: dict[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(
            str(path.parent), tag=path.name, exclude_frozen_parameters=True
        )
    return weights
