"""The training loop of an image tokenizer: resumable, with perceptual and adversarial terms."""

import io
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.backends import cudnn
from tqdm import tqdm

from arra_med.errors import RequestError, WorkError
from arra_med.parallel import available_cores
from arra_med.settings import TokenizerTraining
from arra_med.store import PARTIAL, PartWriter, PreparedFolder
from arra_med.tokenizers.adversary import Adversary
from arra_med.tokenizers.base import TrainableTokenizer
from arra_med.tokenizers.batches import TrainingOrder, training_batches
from arra_med.tokenizers.learning import ReconstructingTokenizer, Reconstruction
from arra_med.tokenizers.perceptual import PerceptualDistance, load_perceptual

logger = logging.getLogger(__name__)

CHECKPOINT = f"{PARTIAL}/checkpoint.pt"
_LOG_EVERY = 50
_MOST_WORKERS = 8


class TokenizerTrainer:
    """A tokenizer, and everything that changes while it learns.

    Args:
        tokenizer: with random weights, on its device.
        training: the settings.
        seed: of the order of pictures, revived codes and the discriminator's weights.
        perceptual_file: weights of the perceptual loss, if its weight is not 0.

    Raises:
        RequestError: if a term asked for cannot be had of this tokenizer or these pictures.
    """

    def __init__(
        self,
        tokenizer: TrainableTokenizer,
        training: TokenizerTraining,
        *,
        seed: int,
        perceptual_file: Path | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.training = training
        self.seed = seed
        self.step = 0
        learning = [weight for weight in tokenizer.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.Adam(learning, lr=training.learning_rate)
        self.generator = torch.Generator().manual_seed(seed)
        on_pictures = training.perceptual.weight or training.adversarial.weight
        if on_pictures and not isinstance(tokenizer, ReconstructingTokenizer):
            raise RequestError(
                "perceptual and adversarial terms need a tokenizer whose training gives its "
                f"reconstruction (a ReconstructingTokenizer), and {type(tokenizer).__name__} does "
                "not: set their weights to 0"
            )
        self.perceptual: PerceptualDistance | None = None
        if perceptual_file is not None:
            self.perceptual = load_perceptual(perceptual_file).to(tokenizer.device)
        self.adversary: Adversary | None = None
        if training.adversarial.weight:
            self.adversary = Adversary(
                training.adversarial,
                image_size=tokenizer.image_size,
                channels=tokenizer.channels,
                seed=seed,
                device=tokenizer.device,
            )

    def run(self, prepared: PreparedFolder, writer: PartWriter) -> None:
        """Train to the last step; checkpoints are part 0 of ``writer``.

        Raises:
            WorkError: if the loss is not finite.
        """
        training, device = self.training, self.tokenizer.device
        on_gpu = device.type != "cpu"
        batches = training_batches(
            prepared,
            TrainingOrder(prepared, batch_size=training.batch_size, seed=self.seed),
            start=self.step,
            stop=training.steps,
            workers=training.workers or (min(_MOST_WORKERS, available_cores()) if on_gpu else 1),
            pin_memory=device.type == "cuda",
        )
        self.tokenizer.train()
        progress = tqdm(
            total=training.steps, initial=self.step, desc="train-tokenizer", unit="step"
        )
        # without these cuDNN may sum in another order each time, and the same seed give other codes
        repeatable = cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with progress, repeatable:
            for images in batches:
                terms = self.learn(images.to(device, non_blocking=True))
                progress.update()
                last = self.step == training.steps
                saving = self.step % training.checkpoint_every == 0 and not last
                if saving or last or self.step % _LOG_EVERY == 0:
                    progress.set_postfix(_finite(terms, self.step))
                if saving:
                    self._save(writer)
        self.tokenizer.eval()

    def learn(self, images: Tensor) -> dict[str, Tensor]:
        """One optimizer step on ``(B, C, S, S)`` uint8 pictures.

        Returns:
            The loss and its terms, by name, not weighted.
        """
        factor = learning_rate_factor(self.step, self.training)
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=self.training.precision == "bf16"
        ):
            if isinstance(self.tokenizer, ReconstructingTokenizer):
                made = self.tokenizer.learn(images, self.generator)
                loss, terms = made.loss, dict(made.terms)
            else:
                made, terms = None, {}
                loss = self.tokenizer.training_loss(images, self.generator)
        adversary = self.adversary if self.step >= self.training.adversarial.start else None
        if made is not None:
            loss = loss + self._on_pictures(made, adversary, terms)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.training.learning_rate
        self.optimizer.step()
        if made is not None and adversary is not None:
            terms["discriminator"] = adversary.learn(made.pixels, made.decoded, factor=factor)
        self.step += 1
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def _on_pictures(
        self, made: Reconstruction, adversary: Adversary | None, terms: dict[str, Tensor]
    ) -> Tensor:
        total = made.loss.new_zeros(())
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(made.decoded, made.pixels)
            total = total + self.training.perceptual.weight * terms["perceptual"]
        if adversary is not None:
            terms["adversarial"] = adversary.judge(made.decoded)
            total = total + self.training.adversarial.weight * terms["adversarial"]
        return total

    def _save(self, writer: PartWriter) -> None:
        state: dict[str, Any] = {
            "step": self.step,
            "tokenizer": self.tokenizer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "adversary": self.adversary.state_dict() if self.adversary is not None else None,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        # what a part writes below .partial/ goes away when the folder is finished
        writer.write_part(0, {CHECKPOINT: buffer.getvalue()}, {})

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            WorkError: if it is damaged.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.tokenizer.load_state_dict(state["tokenizer"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"])
            if self.adversary is not None:
                self.adversary.load_state_dict(state["adversary"])
            self.step = int(state["step"])
        except Exception as error:  # a broken file may break any step of reading it
            raise WorkError(
                f"{path} is damaged ({type(error).__name__}): delete the folder {path.parents[1]} "
                "and train again"
            ) from error
        logger.info("resuming after step %d of %d", self.step, self.training.steps)


def learning_rate_factor(step: int, training: TokenizerTraining) -> float:
    """What the learning rate is multiplied by at ``step`` (from 0): a rise, a cosine."""
    if step < training.warmup_steps:
        return (step + 1) / (training.warmup_steps + 1)
    done = (step - training.warmup_steps) / (training.steps - training.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _finite(terms: Mapping[str, Tensor], step: int) -> dict[str, str]:
    """The terms for the progress line.

    Raises:
        WorkError: if one is not finite.
    """
    values = {name: term.item() for name, term in terms.items()}
    wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise WorkError(
            f"at step {step} of the image tokenizer {', '.join(wrong)}: lower its learning_rate"
        )
    return {name: f"{value:.4f}" for name, value in values.items()}
