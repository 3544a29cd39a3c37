"""What a run trains and on what: built from the settings alone, before any engine exists."""

from typing import Any

import torch

from arra_med.alignment import ArraModel
from arra_med.config import to_tree
from arra_med.errors import RequestError
from arra_med.model.backbones import build_backbone, context_length
from arra_med.model.cache import check_states
from arra_med.model.lora import add_lora
from arra_med.model.packed import check_packing
from arra_med.settings import Settings, Training, section
from arra_med.store import fingerprint
from arra_med.tokenizers.base import load_tokenizer
from arra_med.training.data import Examples
from arra_med.training.inputs import Inputs, check_run_folder
from arra_med.training.loader import TrainingSet
from arra_med.training.mixture import TrainingFolder
from arra_med.training.record import without_length


class Setup:
    """Model, data and length of a run.

    Attributes:
        model: the backbone with ARRA's loss, on the CPU.
        text_tokenizer: of prompts.
        layout: of image tokens.
        image_tokenizer: codes to pictures, for previews.
        train_set: training examples of every folder, in their order.
        validation_set: held-out examples, prompts never dropped.
        total_steps: optimizer steps of the whole run.

    Raises:
        RequestError: if settings and data contradict each other.
    """

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        self.settings, self.inputs = settings, inputs
        self.training: Training = section(settings.training, "training", "train")
        self.backbone = section(settings.backbone, "backbone", "train")
        self.tokenizer_folder = settings.paths.folder("tokenizer")
        self.image_tokenizer = load_tokenizer(self.tokenizer_folder)
        if self.training.preview_every and not self.image_tokenizer.can_decode:
            raise RequestError(
                f"training.preview_every is {self.training.preview_every}, but the image tokenizer "
                f"in {self.tokenizer_folder} has an encoder only, so that it cannot draw: set it "
                "to 0"
            )
        backbone, self.text_tokenizer, self.layout = build_backbone(
            self.backbone,
            prompts=[
                row["prompt"] for folder in inputs.folders for row in folder.prepared.rows("train")
            ],
            num_codes=self.image_tokenizer.num_codes,
            grid=self.image_tokenizer.grid,
            with_rep=inputs.features is not None and settings.alignment.span == "rep",
            seed=settings.seed,
            # DeepSpeed casts weights to bf16 before it copies them to float32 masters: more bits
            # would be lost anyway, and take twice the main memory on every rank.
            dtype=torch.bfloat16 if self.training.precision == "bf16" else torch.float32,
            image_tokenizer=inputs.image_tokenizer,
        )
        check_states(backbone)
        if self.backbone.lora is not None:
            add_lora(backbone, self.backbone.lora, self.layout, seed=settings.seed)
        if self.training.pack_tokens:
            check_packing(backbone)
        self.train_set = TrainingSet(
            [self._examples(folder, "train") for folder in inputs.folders],
            [folder.ratio for folder in inputs.folders],
            self.training,
            seed=settings.seed,
        )
        self.total_steps = self.train_set.total_steps
        self.validation_set = self._examples(inputs.main, "validate")
        self.check_length(context_length(backbone), type(backbone).__name__)
        self.model = ArraModel(
            backbone,
            settings.alignment,
            teacher_dimension=inputs.features.width if inputs.features else 0,
            z_weight=self.training.z_loss,
            seed=settings.seed,
        )

    def _examples(self, folder: TrainingFolder, split: str) -> Examples:
        return Examples(
            folder.prepared,
            split,
            tokens=folder.tokens,
            features=folder.features,
            tokenizer=self.text_tokenizer,
            layout=self.layout,
            backbone=self.backbone,
        )

    def longest_sequence(self) -> int:
        """Tokens of the longest sequence of either split."""
        return self.layout.sequence_length(self._longest_prompt())

    def check_length(self, context: int | None, name: str) -> None:
        """Refuse sequences that are longer than the model called ``name`` has positions.

        Raises:
            RequestError: saying how long they are and what to change.
        """
        longest = self.longest_sequence()
        if context is not None and longest > context:
            raise RequestError(
                f"the longest sequence takes {longest} tokens ({self._longest_prompt()} of the "
                f"prompt, {self.layout.image_length} of the image), {name} has {context} "
                "positions: lower backbone.max_prompt_tokens (with backbone.long_prompts: "
                "truncate), or use smaller images, a tokenizer of fewer codes, or another model"
            )

    def _longest_prompt(self) -> int:
        return max(self.train_set.longest_prompt, self.validation_set.longest_prompt)

    def info(self, step: int) -> dict[str, Any]:
        """What an export of the weights after optimizer step ``step`` says of itself."""
        prepared, features = self.inputs.prepared, self.inputs.features
        run = check_run_folder(self.settings, self.inputs).recorded
        backbone = self.backbone
        folders = [folder.info() for folder in self.inputs.folders]
        dataset = "+".join(dict.fromkeys(folder["dataset"] for folder in folders))
        family = backbone.pretrained.name if backbone.pretrained else "llama"
        kind = [name for name, used in (("lora", backbone.lora), ("arra", features)) if used]
        return {
            "name": "-".join([family, *kind, dataset]),
            "backbone": to_tree(backbone),
            "alignment": to_tree(self.settings.alignment) if features else None,
            "teacher": features.manifest["config"]["teacher"] if features else None,
            "image_tokenizer": self.inputs.image_tokenizer,
            "image_size": prepared.image_size,
            "channels": prepared.channels,
            "prompt_dropout": self.training.prompt_dropout,
            "max_prompt_tokens": backbone.max_prompt_tokens,
            "long_prompts": backbone.long_prompts,
            "trained_on": {
                "dataset": dataset,
                "folders": folders,
                "samples": len(self.train_set),
                "run": fingerprint(run),
                "run_of_any_length": fingerprint(without_length(run)),
                "steps": step,
                "total_steps": self.total_steps,
                "seed": self.settings.seed,
            },
        }

    def describe(self) -> str:
        """One line for the log: how much data and how many steps, alignment, trained share."""
        alignment = self.settings.alignment
        said = (
            f"aligned at layer {alignment.layer} with weight {alignment.weight:g}"
            if self.inputs.features
            else "no alignment, as configured"
        )
        if self.training.warmup_steps >= self.total_steps:
            said += "; the learning rate is never reached: training.warmup_steps is "
            said += f"{self.training.warmup_steps:,}"
        if not self.image_tokenizer.can_decode:
            said += "; no previews, as the image tokenizer has no decoder"
        trained, every = parameter_counts(self.model)
        if trained < every:
            said += f"; LoRA: {trained} of {every} parameters are trained"
        return (
            f"{len(self.train_set)} training samples, {self.total_steps} steps in "
            f"batches of {self.training.batch_size}; {said}"
        )


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """Numbers of trained and of all parameters, also where ZeRO 3 holds them in shards."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
