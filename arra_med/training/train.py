"""``train``: domain-adapt a language model to draw, with ARRA's alignment, under DeepSpeed."""

import contextlib
import logging
import os
from pathlib import Path

import torch

from arra_med.config import dump
from arra_med.errors import WorkError
from arra_med.settings import Settings, section
from arra_med.store import (
    canonical_json,
    locked,
    save_run_record,
    write_atomic,
)
from arra_med.training.engine import start_processes
from arra_med.training.export import already_exported
from arra_med.training.faults import Watch
from arra_med.training.inputs import Inputs, check_run_folder
from arra_med.training.longer import check_can_be_longer, how_to_go_on, set_export_aside
from arra_med.training.memory import out_of_memory
from arra_med.training.record import RUN_RECORD
from arra_med.training.setup import Setup
from arra_med.training.signals import StopSignals
from arra_med.training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(settings: Settings, *, device: torch.device) -> Path:
    """Train, resume training, or train a run for longer, and write the export.

    Returns:
        The export's folder.

    Raises:
        FileNotFoundError: if a stage before this one was not run.
        RequestError: if settings and data contradict each other, or there is an export already that
            is not this run's last.
        WorkError: if the loss is not finite, the disk is full, or a rank failed.
        PreemptedError: if a signal asked to stop; the checkpoint is written.
    """
    inputs = Inputs(settings)
    identity = check_run_folder(settings, inputs, may_be_longer=True)
    shorter = identity.shorter
    export = settings.paths.folder("export")
    folder = settings.paths.folder("run")
    if shorter is not None:
        check_can_be_longer(settings, inputs, shorter)
    elif already_exported(export, identity.recorded):
        logger.info("%s is already done. %s", export, how_to_go_on(settings))
        return export
    timeout = section(settings.training, "training", "train").timeout_minutes
    rank, world_size = start_processes(device, timeout_minutes=timeout)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    with StopSignals() as signals, Watch(timeout) as watch:
        setup = Setup(settings, inputs)
        try:
            trainer = Trainer(
                setup, device=device, rank=rank, world_size=world_size, signals=signals, watch=watch
            )
            with locked(folder) if rank == 0 else contextlib.nullcontext():
                if rank == 0:  # only now is the request known to be sound
                    if shorter is not None:
                        set_export_aside(settings, shorter)
                    write_atomic(folder / RUN_RECORD, canonical_json(identity.asked).encode())
                    save_run_record(folder, dump(settings))
                torch.distributed.barrier()
                trainer.run()
        except torch.OutOfMemoryError as error:
            budget = (
                torch.cuda.get_device_properties(device).total_memory
                if device.type == "cuda"
                else None
            )
            raise WorkError(out_of_memory(setup, world_size, error, budget)) from error
    return export
