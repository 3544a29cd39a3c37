"""``train``: domain-adapt a language model to draw, with ARRA's alignment, under DeepSpeed."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from arra_med.alignment import ArraModel
from arra_med.config import dump, to_tree
from arra_med.errors import RequestError, WorkError
from arra_med.images import encode_png
from arra_med.model.backbones import build_backbone, context_length
from arra_med.model.export import write_export
from arra_med.model.lora import add_lora, merged_state, remove_lora
from arra_med.settings import Settings, Training, section
from arra_med.store import (
    MANIFEST,
    canonical_json,
    check_files,
    locked,
    save_run_record,
    write_atomic,
)
from arra_med.tokenizers.base import load_tokenizer, tokenizer_id
from arra_med.training.checkpoints import load_newest, save_checkpoint
from arra_med.training.data import Examples, RankShare, collate, loader
from arra_med.training.engine import (
    gathered_state,
    learning_rate_factor,
    make_engine,
    start_processes,
)
from arra_med.training.inputs import RUN_RECORD, Inputs, check_run_folder
from arra_med.training.metrics import MetricsLog
from arra_med.training.preview import preview_grid

logger = logging.getLogger(__name__)

_LOSSES = ("total", "cross_entropy", "alignment", "z")


def train(settings: Settings, *, device: torch.device) -> Path:
    """Train, or resume training, and write the export.

    Returns:
        The export's folder.

    Raises:
        FileNotFoundError: if a stage before this one was not run.
        RequestError: if settings and data contradict each other.
        WorkError: if the loss is not finite.
    """
    inputs = Inputs(settings)
    identity = check_run_folder(settings, inputs)
    export = settings.paths.folder("export")
    if (export / MANIFEST).is_file():
        check_files(export, "export")
        logger.info("%s is already done", export)
        return export
    rank, world_size = start_processes(device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    trainer = Trainer(settings, inputs, device=device, rank=rank, world_size=world_size)
    folder = settings.paths.folder("run")
    with locked(folder) if rank == 0 else contextlib.nullcontext():
        if rank == 0:  # only now is the request known to be sound
            write_atomic(folder / RUN_RECORD, canonical_json(identity).encode())
            save_run_record(folder, dump(settings))
        torch.distributed.barrier()
        trainer.run()
    return export


class Trainer:
    """One process of one training run."""

    def __init__(
        self,
        settings: Settings,
        inputs: Inputs,
        *,
        device: torch.device,
        rank: int,
        world_size: int,
    ) -> None:
        self.settings = settings
        self.training: Training = section(settings.training, "training", "train")
        self.inputs = inputs
        self.device, self.rank, self.world_size = device, rank, world_size
        self.folder = settings.paths.folder("run")
        self.tokenizer_folder = settings.paths.folder("tokenizer")
        self.image_tokenizer = load_tokenizer(self.tokenizer_folder).to(device)
        train_rows = inputs.prepared.rows("train")
        steps = math.ceil(self.training.epochs * len(train_rows) / self.training.batch_size)
        self.total_steps = min(steps, self.training.max_steps or steps)
        self.backbone = section(settings.backbone, "backbone", "train")
        model, self.text_tokenizer, self.layout = build_backbone(
            self.backbone,
            prompts=[row["prompt"] for row in train_rows],
            num_codes=self.image_tokenizer.num_codes,
            grid=self.image_tokenizer.grid,
            with_rep=inputs.features is not None and settings.alignment.span == "rep",
            seed=settings.seed,
        )
        if self.backbone.lora is not None:
            add_lora(model, self.backbone.lora, self.layout, seed=settings.seed)
        self.train_set = self._examples("train")
        self.validation_set = self._examples("validate")
        self._check_length(model)
        self.model = ArraModel(
            model,
            settings.alignment,
            teacher_dimension=inputs.features.width if inputs.features else 0,
            z_weight=self.training.z_loss,
            seed=settings.seed,
        )
        self.engine = make_engine(
            self.model, self.training, total_steps=self.total_steps, world_size=world_size
        )

    def run(self) -> None:
        """Train from the newest checkpoint to the end, then write the export."""
        first_step = load_newest(self.engine, self.folder / "checkpoints")
        self.log = MetricsLog(self.folder, first_step) if self.rank == 0 else None
        self._describe()
        batches = self._batches(first_step)
        window = torch.zeros(len(_LOSSES) + 1, device=self.device)
        started = time.monotonic()
        progress = tqdm(
            total=self.total_steps,
            initial=first_step,
            desc="train",
            unit="step",
            disable=self.rank > 0,
        )
        for step in range(first_step + 1, self.total_steps + 1):
            window += self._step(step, batches)
            progress.update()
            last = step == self.total_steps
            if last or step % self.training.log_every == 0:
                values = self._means(window, step)
                elapsed, started = time.monotonic() - started, time.monotonic()
                values["samples_per_second"] = values.pop("steps") * (
                    self.training.batch_size / elapsed
                )
                values["learning_rate"] = self.training.learning_rate * learning_rate_factor(
                    self.training, step - 1, self.total_steps
                )
                self._write(step, values)
                progress.set_postfix(
                    {name: f"{values[name]:.3f}" for name in _LOSSES if name in values}
                )
                window.zero_()
            if last or _due(step, self.training.checkpoint_every):
                save_checkpoint(
                    self.engine,
                    self.folder / "checkpoints",
                    step,
                    keep=self.training.keep_checkpoints,
                )
            if last or _due(step, self.training.validate_every):
                self._write(step, self._validate(), prefix="validate/")
            if last or _due(step, self.training.preview_every):
                self._preview(step)
        progress.close()
        if self.log is not None:
            self.log.close()
        self._export()

    def _step(self, step: int, batches: Iterator[dict[str, Tensor]]) -> Tensor:
        """One optimizer step; returns the sums of its losses and, last, 1."""
        self.engine.train()
        # Dropout takes no generator; this gives each step its own masks, resumed or not. A model
        # may have dropouts that no setting of ours names, so it does not wait for one.
        torch.manual_seed(self.settings.seed + (step * self.world_size + self.rank) * 1_000_003)
        rounds = self.engine.gradient_accumulation_steps()
        sums = torch.zeros(len(_LOSSES) + 1, device=self.device)
        for _ in range(rounds):
            losses = self.engine(self._to_device(next(batches)))
            self.engine.backward(losses["total"])
            self.engine.step()
            sums[:-1] += _stack(losses) / rounds
        sums[-1] = 1
        return sums

    def _means(self, window: Tensor, step: int) -> dict[str, float]:
        """Means over the window's steps and over ranks.

        Raises:
            WorkError: on every rank, if the loss is not finite.
        """
        means = window[:-1] / window[-1]
        torch.distributed.all_reduce(means)
        means /= self.world_size
        values = dict(zip(_LOSSES, means.tolist(), strict=True))
        if not math.isfinite(values["total"]):
            raise WorkError(
                f"the loss is not finite at step {step} ({values}): lower training.learning_rate "
                "or training.gradient_clipping, or use precision bf16 or fp32. The last checkpoint "
                "is intact; the same command resumes from it"
            )
        if self.inputs.features is None:
            del values["alignment"]
        return values | {"steps": float(window[-1])}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Mean losses over the validation split, prompts never dropped."""
        self.engine.eval()
        size = self.training.micro_batch_size
        count = len(self.validation_set)
        batches = [list(range(i, min(i + size, count))) for i in range(0, count, size)]
        sums = torch.zeros(len(_LOSSES) + 1, device=self.device)
        for turn in range(math.ceil(len(batches) / self.world_size)):
            # Every rank takes as many turns as the others: sharded weights are gathered together.
            index = turn * self.world_size + self.rank
            positions = batches[index % len(batches)]
            items = [self.validation_set[position] for position in positions]
            losses = self.engine(self._to_device(collate(items, self.layout.pad_id)))
            if index < len(batches):
                sums[:-1] += _stack(losses) * len(items)
                sums[-1] += len(items)
        torch.distributed.all_reduce(sums)
        values = dict(zip(_LOSSES, (sums[:-1] / sums[-1]).tolist(), strict=True))
        if self.inputs.features is None:
            del values["alignment"]
        return values

    def _preview(self, step: int) -> None:
        self.engine.eval()
        keys = self.validation_set.keys[: self.training.preview_samples]
        grid = preview_grid(
            self.model.backbone,
            self.layout,
            self.image_tokenizer,
            self.inputs.prepared,
            keys,
            self.validation_set.prompts[: len(keys)],
            guided=self.training.prompt_dropout > 0,
            seed=self.settings.seed,
        )
        if self.log is not None:
            write_atomic(self.folder / "previews" / f"step-{step:08d}.png", encode_png(grid))
            self.log.picture(step, grid)

    def _export(self) -> None:
        state = gathered_state(self.model.backbone, self.training.zero_stage)
        if self.backbone.lora is not None:
            state = merged_state(self.model.backbone, state)
            remove_lora(self.model.backbone)
        if self.rank == 0:
            write_export(
                self.settings.paths.folder("export"),
                model=self.model.backbone,
                state_dict=state,
                text_tokenizer=self.text_tokenizer,
                image_tokenizer=self.tokenizer_folder,
                layout=self.layout,
                info=self._info(),
            )
        torch.distributed.barrier()

    def _info(self) -> dict[str, Any]:
        """What the export says of itself."""
        prepared, features = self.inputs.prepared, self.inputs.features
        backbone = self.backbone
        dataset = prepared.manifest["config"]["dataset"]["name"]
        family = backbone.pretrained.name if backbone.pretrained else "llama"
        kind = [name for name, used in (("lora", backbone.lora), ("arra", features)) if used]
        return {
            "name": "-".join([family, *kind, dataset]),
            "backbone": to_tree(backbone),
            "alignment": to_tree(self.settings.alignment) if features else None,
            "teacher": features.manifest["config"]["teacher"] if features else None,
            "image_tokenizer": tokenizer_id(self.tokenizer_folder),
            "image_size": prepared.image_size,
            "channels": prepared.channels,
            "prompt_dropout": self.training.prompt_dropout,
            "max_prompt_tokens": backbone.max_prompt_tokens,
            "long_prompts": backbone.long_prompts,
            "trained_on": {
                "dataset": dataset,
                "prepared": prepared.content_hash,
                "samples": len(self.train_set),
                "steps": self.total_steps,
                "seed": self.settings.seed,
            },
        }

    def _examples(self, split: str) -> Examples:
        is_training = split == "train"
        return Examples(
            self.inputs.prepared,
            split,
            tokens=self.inputs.tokens,
            features=self.inputs.features,
            tokenizer=self.text_tokenizer,
            layout=self.layout,
            backbone=self.backbone,
            prompt_dropout=self.training.prompt_dropout if is_training else 0.0,
            seed=self.settings.seed,
            shuffle=is_training,
        )

    def _check_length(self, model: PreTrainedModel) -> None:
        """Refuse sequences that are longer than the model has positions.

        Raises:
            RequestError: saying how long they are and what to change.
        """
        prompt = max(map(len, [*self.train_set.prompts, *self.validation_set.prompts]))
        longest = self.layout.sequence_length(prompt)
        context = context_length(model)
        if context is not None and longest > context:
            raise RequestError(
                f"the longest sequence takes {longest} tokens ({prompt} of the prompt, "
                f"{self.layout.image_length} of the image), {type(model).__name__} has {context} "
                "positions: lower backbone.max_prompt_tokens (with backbone.long_prompts: "
                "truncate), or use smaller images, a tokenizer of fewer codes, or another model"
            )

    def _batches(self, first_step: int) -> Iterator[dict[str, Tensor]]:
        share = RankShare(
            batch_size=self.training.batch_size,
            micro_batch_size=self.training.micro_batch_size,
            rank=self.rank,
            world_size=self.world_size,
            first_step=first_step,
            last_step=self.total_steps,
        )
        return iter(
            loader(
                self.train_set,
                share,
                workers=self.training.loader_workers,
                pin_memory=self.device.type == "cuda",
            )
        )

    def _to_device(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def _write(self, step: int, values: dict[str, float], *, prefix: str = "") -> None:
        if self.log is not None:
            self.log.write(step, values, prefix=prefix)

    def _describe(self) -> None:
        if self.rank == 0:
            alignment = self.settings.alignment
            if self.backbone.lora is not None:
                sizes = [
                    (getattr(p, "ds_numel", p.numel()), p.requires_grad)
                    for p in self.model.parameters()
                ]
                logger.info(
                    "LoRA of rank %d: %d of %d parameters are trained",
                    self.backbone.lora.rank,
                    sum(size for size, trained in sizes if trained),
                    sum(size for size, _ in sizes),
                )
            logger.info(
                "%d training samples, %d steps of %d; %s",
                len(self.train_set),
                self.total_steps,
                self.training.batch_size,
                f"aligned at layer {alignment.layer} with weight {alignment.weight:g}"
                if self.inputs.features
                else "no alignment, as configured",
            )


def _stack(losses: dict[str, Tensor]) -> Tensor:
    """Detached losses in the order of ``_LOSSES``; 0 where there is none."""
    zero = losses["total"].new_zeros(())
    return torch.stack([losses.get(name, zero).detach().float() for name in _LOSSES])


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
