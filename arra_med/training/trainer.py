"""The training loop of one process."""

import logging
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from arra_med.alignment import Batch
from arra_med.errors import PreemptedError, WorkError
from arra_med.images import encode_png
from arra_med.store import write_atomic
from arra_med.training.agreement import Agreement
from arra_med.training.checkpoints import Checkpoints, read_mark
from arra_med.training.engine import gathered_state, learning_rate_factor, make_engine
from arra_med.training.export import write
from arra_med.training.faults import Watch
from arra_med.training.loader import MicroBatches, step_batches
from arra_med.training.metrics import MetricsLog
from arra_med.training.preview import preview_grid
from arra_med.training.setup import Setup
from arra_med.training.signals import StopSignals
from arra_med.training.universal import load_checkpoint
from arra_med.training.validation import LOSSES, held_out_losses, stacked, to_device

logger = logging.getLogger(__name__)

_NOT_FINITE = (
    "lower training.learning_rate or training.gradient_clipping, or use precision bf16 or fp32. "
    "The last checkpoint is intact; the same command resumes from it"
)


class Trainer:
    """One process of one training run.

    Args:
        setup: what is trained on what.
        device: of this process.
        rank: of this process.
        world_size: number of processes.
        signals: that ask to stop.
        watch: told what this rank is doing.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        device: torch.device,
        rank: int,
        world_size: int,
        signals: StopSignals,
        watch: Watch,
    ) -> None:
        self.setup, self.training = setup, setup.training
        self.device, self.rank, self.world_size = device, rank, world_size
        self.signals, self.watch = signals, watch
        self.folder = setup.settings.paths.folder("run")
        self.agreement = Agreement()
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints",
            self.agreement,
            rank=rank,
            world_size=world_size,
            keep=self.training.keep_checkpoints,
            keep_best=self.training.keep_best,
        )
        setup.image_tokenizer.to(device)
        if self.training.zero_stage == 3:  # each chunk gathers the head's shards
            setup.model.agreed_chunks = lambda number: self.agreement.largest(number)[0]
        self.engine = make_engine(
            setup.model,
            setup.train_set.counted_in_rows(world_size),
            device=device,
            total_steps=setup.total_steps,
            world_size=world_size,
        )
        self.log: MetricsLog | None = None
        self._window = torch.zeros(len(LOSSES) + 1, device=device)
        self._logged = self._saved = time.monotonic()
        self._lowest: float | None = None

    def run(self) -> None:
        """Train from the newest checkpoint to the end, then write the export.

        Raises:
            PreemptedError: if a signal asks to stop; the checkpoint is written.
            WorkError: if the loss or a weight is not finite, or a checkpoint cannot be written.
        """
        first_step = self._resume()
        if stop := self.agreement.largest(self.signals.received)[0]:
            raise self._stopped(first_step, stop)
        batches = self._batches(first_step)
        total_steps = self.setup.total_steps
        self._logged = self._saved = time.monotonic()
        with tqdm(
            total=total_steps,
            initial=first_step,
            desc="train",
            unit="step",
            disable=self.rank > 0,
        ) as progress:
            for step in range(first_step + 1, total_steps + 1):
                self._window += self._step(step, batches)
                progress.update()
                if step == total_steps or step % self.training.log_every == 0:
                    values = self._log_window(step)
                    progress.set_postfix({name: f"{values[name]:.3f}" for name in LOSSES})
                self._after_step(step)
        self.watch.at("export", total_steps)
        self._export()
        if self.log is not None:
            self.log.close()

    def _resume(self) -> int:
        """Load the newest checkpoint; returns how many steps it has done, 0 without one."""
        self.watch.at("resuming", 0)
        step = 0
        newest = self.checkpoints.newest()
        if newest is not None:
            mark = read_mark(newest)
            load_checkpoint(
                self.engine,
                newest,
                self.agreement,
                saved=(mark["zero_stage"], mark["world_size"]),
                now=(self.training.zero_stage, self.world_size),
                rank=self.rank,
            )
            step = int(mark["step"])
            logger.info("resuming after step %d", step)
        self._lowest = self.checkpoints.best()
        self.log = MetricsLog(self.folder, step) if self.rank == 0 else None
        if self.rank == 0:
            logger.info("%s", self.setup.describe())
        if step:
            self._catch_up(step)
        return step

    def _catch_up(self, step: int) -> None:
        """Validate and draw what was due after ``step`` when a signal came first."""
        missing = [0, 0]
        if self.log is not None:
            drawn = self._preview_file(step).is_file()
            missing = [
                int(self._due(step, self.training.validate_every) and not self.log.validated(step)),
                int(self._due(step, self.training.preview_every) and not drawn),
            ]
        validate, preview = self.agreement.largest(*missing)
        if validate:
            self.checkpoints.set_validation(step, self._validate(step))
            self._lowest = self.checkpoints.best()
        if preview:
            self._preview(step)

    def _after_step(self, step: int) -> None:
        """Validate, draw and save what is due after ``step``, or save and stop at a signal."""
        stop, timely = self.agreement.largest(self.signals.received, self._clock_says())
        validation = None
        if not stop and self._due(step, self.training.validate_every):
            validation = self._validate(step)
        if not stop and self._due(step, self.training.preview_every):
            self._preview(step)
        better = (
            self.training.keep_best
            and validation is not None
            and (self._lowest is None or validation < self._lowest)
        )
        if stop or timely or better or self._due(step, self.training.checkpoint_every):
            self._save(step, validation)
        if stop:
            raise self._stopped(step, stop)

    def _clock_says(self) -> int:
        """1 if rank 0's clock says that the last checkpoint is too old."""
        minutes = self.training.checkpoint_minutes
        age = time.monotonic() - self._saved
        return int(self.rank == 0 and minutes > 0 and age > minutes * 60)

    def _stopped(self, step: int, number: int) -> PreemptedError:
        return PreemptedError(
            f"stopped by {signal.Signals(number).name} after step {step} of "
            f"{self.setup.total_steps}, which is saved: the same command goes on from there"
        )

    def _save(self, step: int, validation: float | None) -> None:
        self.watch.at("checkpoint", step)
        self._check_weights(step)
        self.checkpoints.save(
            lambda folder, name: self.engine.save_checkpoint(folder, tag=name, save_latest=False),
            step,
            validation=validation,
            facts={
                "zero_stage": self.training.zero_stage,
                "total_steps": self.setup.total_steps,
            },
        )
        if validation is not None and (self._lowest is None or validation < self._lowest):
            self._lowest = validation
        self._saved = time.monotonic()

    def _due(self, step: int, every: int) -> bool:
        return step == self.setup.total_steps or (every > 0 and step % every == 0)

    def _step(self, step: int, batches: Iterator[Batch]) -> Tensor:
        """One optimizer step; returns the sums of its losses and, last, 1."""
        self.engine.train()
        # Dropout takes no generator; this gives each step its own masks, resumed or not. A model
        # may have dropouts that no setting of ours names, so it does not wait for one.
        seed = self.setup.settings.seed
        torch.manual_seed(seed + (step * self.world_size + self.rank) * 1_000_003)
        rounds = self.engine.gradient_accumulation_steps()
        skipped = self.engine.skipped_steps
        sums = torch.zeros(len(LOSSES) + 1, device=self.device)
        for _ in range(rounds):
            self.watch.at("data", step)
            batch = to_device(next(batches), self.device)
            self.watch.at("step", step)
            losses = self.engine(batch)
            self.engine.backward(losses["total"])
            self.engine.step()
            sums[:-1] += stacked(losses) / rounds
        if self.engine.skipped_steps > skipped:  # every rank's count is the same
            self._check_gradient(step)
        sums[-1] += 1
        return sums

    def _log_window(self, step: int) -> dict[str, float]:
        """Log the means since the last log; returns them."""
        values = self._means(step)
        norm = self.engine.get_global_grad_norm()  # None with an AdamW that DeepSpeed did not wrap
        if self.agreement.largest(int(norm is not None and not math.isfinite(norm)))[0]:
            self._check_gradient(step)
        elif norm is not None:
            values["gradient_norm"] = float(norm)
        elapsed, self._logged = time.monotonic() - self._logged, time.monotonic()
        values["samples_per_second"] = float(self._window[-1]) * self.training.batch_size / elapsed
        values["learning_rate"] = self.training.learning_rate * learning_rate_factor(
            self.training, step - 1, self.setup.total_steps
        )
        self._write(step, values)
        self._window.zero_()
        return values

    def _means(self, step: int) -> dict[str, float]:
        """Means over the steps since the last log and over ranks.

        Raises:
            WorkError: on every rank, if the loss is not finite.
        """
        means = self._window[:-1] / self._window[-1]
        torch.distributed.all_reduce(means)
        means /= self.world_size
        values = dict(zip(LOSSES, means.tolist(), strict=True))
        if not math.isfinite(values["total"]):
            raise WorkError(f"the loss is not finite at step {step} ({values}): {_NOT_FINITE}")
        return values

    def _check_gradient(self, step: int) -> None:
        """Stop at a gradient that is not finite, which DeepSpeed leaves out without a word.

        Raises:
            WorkError: except in fp16, whose loss is scaled by trial and error.
        """
        if self.training.precision != "fp16":
            raise WorkError(f"the gradient is not finite at step {step}: {_NOT_FINITE}")

    def _check_weights(self, step: int) -> None:
        """Refuse to save what no run can go on from.

        Raises:
            WorkError: on every rank, if a weight of any is not finite.
        """
        shards = [getattr(p, "ds_tensor", p) for p in self.engine.module.parameters()]
        finite = torch.stack([shard.detach().isfinite().all() for shard in shards]).all()
        if self.agreement.largest(int(not finite))[0]:
            raise WorkError(
                f"the weights are not finite after step {step}, no checkpoint of it is written: "
                f"{_NOT_FINITE}"
            )

    def _validate(self, step: int) -> float:
        """Log the held-out losses; returns their total.

        Raises:
            WorkError: on every rank, if it is not finite.
        """
        self.watch.at("validation", step)
        examples = self.setup.validation_set
        values = held_out_losses(
            self.engine, examples, self.training.micro_batch_size, self.agreement
        )
        self._write(step, values, prefix="validate/")
        if not math.isfinite(values["total"]):
            raise WorkError(
                f"the held-out loss after step {step} is not finite ({values}): {_NOT_FINITE}"
            )
        return values["total"]

    def _preview_file(self, step: int) -> Path:
        return self.folder / "previews" / f"step-{step:08d}.png"

    def _preview(self, step: int) -> None:
        if not self.setup.image_tokenizer.can_decode:
            return
        self.watch.at("preview", step)
        self.engine.eval()
        examples = self.setup.validation_set
        keys = examples.keys[: self.training.preview_samples]
        grid = preview_grid(
            self.setup.model.backbone,
            self.setup.layout,
            self.setup.image_tokenizer,
            self.setup.inputs.prepared,
            keys,
            examples.prompts[: len(keys)],
            guided=self.training.prompt_dropout > 0,
            seed=self.setup.settings.seed,
        )
        if self.log is not None:
            write_atomic(self._preview_file(step), encode_png(grid))
            self.log.picture(step, grid)

    def _export(self) -> None:
        folder = self.setup.settings.paths.folder("export")
        state = gathered_state(self.setup.model.backbone, self.training.zero_stage)
        if self.rank == 0:
            write(self.setup, state, self.setup.total_steps, folder)
        self.agreement.wait()

    def _batches(self, first_step: int) -> Iterator[Batch]:
        return step_batches(
            MicroBatches(self.setup.train_set, rank=self.rank, world_size=self.world_size),
            first_step,
            self.setup.total_steps,
            workers=self.training.loader_workers,
            pin_memory=self.device.type == "cuda",
            agreement=self.agreement,
        )

    def _write(self, step: int, values: dict[str, float], *, prefix: str = "") -> None:
        """Log values; without a teacher there is no alignment to speak of."""
        if self.log is not None:
            aligned = self.setup.inputs.features is not None
            kept = {k: v for k, v in values.items() if aligned or k != "alignment"}
            self.log.write(step, kept, prefix=prefix)
