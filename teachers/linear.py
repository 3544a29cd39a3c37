"""A small classifier trained on the prepared folder's own labels: a teacher for demos and tests.

It needs no download and learns in seconds, so the whole pipeline can run anywhere. It is not a
foundation model, and nothing that is measured with it says what a real teacher would give.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from arra_med.errors import RequestError
from arra_med.images import decode_png
from arra_med.schema import ABSENT, PRESENT
from arra_med.store import PreparedFolder, canonical_json, sha256_file, write_atomic
from arra_med.teachers.base import FittedTeacher, TeacherInfo
from arra_med.teachers.preprocess import SquashAndScale, to_pictures
from arra_med.teachers.weights import read_checkpoint

logger = logging.getLogger(__name__)

CHECKPOINT, CONFIG = "model.safetensors", "config.json"
BATCH_SIZE = 32
WEIGHT_DECAY = 0.05


@dataclass(frozen=True, kw_only=True)
class LinearOptions:
    """Options of :class:`LinearTeacher`.

    Attributes:
        weights: folder that the fitted teacher is saved to and read from.
        dimension: length of its vectors.
        input_size: side of the picture it sees, in pixels.
        patch: side of a patch, in pixels; divides ``input_size``.
        epochs: passes over the training split.
        learning_rate: AdamW's at the start; it falls to zero by a cosine.
        seed: of the initial weights and of the order of samples.
    """

    weights: Path
    dimension: int = 64
    input_size: int = 64
    patch: int = 8
    epochs: int = 40
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimension", "input_size", "patch", "epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.input_size % self.patch:
            raise ValueError(
                f"input_size {self.input_size} is not a multiple of patch {self.patch}"
            )


class PatchClassifier(nn.Module):
    """Patch embedding, ReLU, a linear map of all patches to one vector, a linear readout.

    Args:
        options: sizes and seed.
        num_labels: outputs of the readout.
    """

    def __init__(self, options: LinearOptions, num_labels: int) -> None:
        super().__init__()
        self.patch = options.patch
        num_patches = (options.input_size // options.patch) ** 2
        shapes = {
            "embed": (3 * options.patch**2, options.dimension),
            "pool": (num_patches * options.dimension, options.dimension),
            "readout": (options.dimension, num_labels),
        }
        generator = torch.Generator().manual_seed(options.seed)
        for name, (inputs, outputs) in shapes.items():
            layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
            nn.init.normal_(layer.weight, std=inputs**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
            self.add_module(name, layer)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, S, S)`` float32 to patch tokens ``(B, N, D)`` and one vector ``(B, D)``."""
        patches = F.unfold(pixels, self.patch, stride=self.patch).transpose(1, 2)
        tokens_BND = self.get_submodule("embed")(patches).relu()
        return tokens_BND, self.get_submodule("pool")(tokens_BND.flatten(1))

    def logits(self, pixels: Tensor) -> Tensor:
        """``(B, 3, S, S)`` float32 to one logit a label, ``(B, L)``."""
        logits: Tensor = self.get_submodule("readout")(self(pixels)[1])
        return logits


class LinearTeacher(FittedTeacher):
    """The fitted classifier without its readout.

    Raises:
        FileNotFoundError: if it has not been fitted.
        RequestError: if it was fitted with other options.
    """

    Options = LinearOptions

    def __init__(self, options: LinearOptions) -> None:
        super().__init__()
        config = _config(options)
        self.info = self.describe(options)
        self.transform = SquashAndScale(options.input_size)
        self.classifier = PatchClassifier(options, num_labels=len(config["labels"]))
        self.classifier.load_state_dict(dict(read_checkpoint(options.weights / CHECKPOINT)))
        self.requires_grad_(False).eval()

    @classmethod
    def describe(cls, options: LinearOptions) -> TeacherInfo:
        """See :meth:`Teacher.describe`; weights are not needed."""
        return TeacherInfo(
            dimension=options.dimension,
            input_size=options.input_size,
            aggregations=("cls", "mean"),
            trained_on="labels of a prepared folder's training split",
            normalization="values in [-1, 1]",
        )

    @classmethod
    def identity(cls, options: LinearOptions) -> dict[str, Any]:
        """See :meth:`Teacher.identity`; ``fitted_on`` is the hash of the prepared folder."""
        config = _config(options)
        return {
            "name": "linear",
            "weights_sha256": sha256_file(options.weights / CHECKPOINT),
            "dimension": options.dimension,
            "input_size": options.input_size,
            "patch": options.patch,
            "preprocessing": {"resize": "squash", "kernel": "bicubic", "range": [-1, 1]},
            "fitted_on": config["fitted_on"],
        }

    def forward(self, pixels: Tensor, layers: Sequence[int] | None = None) -> Mapping[str, Tensor]:
        """``(B, 3, S, S)`` float32 to ``{"cls": (B, D), "mean": (B, D)}``; it has no layers."""
        if layers is not None:
            self.info.check_layers(layers)
        tokens_BND, cls_BD = self.classifier(pixels)
        return {"cls": cls_BD, "mean": tokens_BND.mean(dim=1)}

    @classmethod
    def is_fitted(cls, options: LinearOptions) -> bool:
        """Whether both files are there; the configuration is written last."""
        return all((options.weights / name).is_file() for name in (CHECKPOINT, CONFIG))

    @classmethod
    def fit(cls, options: LinearOptions, prepared: PreparedFolder, device: torch.device) -> None:
        """Train on split ``train``, measure on ``validate``, save.

        A label that has no certain positive or no certain negative in ``train`` is left out. The
        resized training pictures are held in memory (48 KB each at 64 px).

        Raises:
            RequestError: if ``train`` is empty or no label can be learnt.
        """
        rows = {row["key"]: row for row in prepared.rows("train")}
        names, left_out = _learnable(prepared.label_names, list(rows.values()))
        if not names:
            raise RequestError(
                f"{prepared.folder}: the linear teacher has nothing to learn: no label has both "
                f"a positive and a negative in split 'train' (labels: {left_out}). Use another "
                "teacher or a dataset with labels."
            )
        logger.info("fitting the linear teacher on %d samples, labels %s", len(rows), names)
        if left_out:
            logger.info("labels without a positive or a negative in train: %s", left_out)
        model = PatchClassifier(options, len(names)).to(device)
        pixels, targets = _tensors(prepared, rows, names, options.input_size)
        loss = _train(model, pixels.to(device), targets.to(device), options)
        auroc = _validate(model, prepared, names, options, device)
        for name, value in auroc.items():
            logger.info("validation AUROC of %s: %s", name, "n/a" if value is None else value)
        state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        write_atomic(options.weights / CHECKPOINT, safetensors.torch.save(state))
        config = {
            "name": "linear",
            "options": _saved_options(options),
            "labels": names,
            "labels_left_out": left_out,
            "fitted_on": prepared.content_hash,
            "num_samples": len(rows),
            "train_loss": loss,
            "validation_auroc": auroc,
        }
        write_atomic(options.weights / CONFIG, canonical_json(config).encode())


def _train(
    model: PatchClassifier, pixels: Tensor, targets: Tensor, options: LinearOptions
) -> float:
    """Masked binary cross-entropy, AdamW; returns the mean loss of the last epoch.

    Args:
        model: trained in place.
        pixels: ``(N, 3, S, S)`` float32.
        targets: ``(N, L)`` float32: 1, 0, NaN where unknown or uncertain.
        options: epochs, learning rate, seed.
    """
    generator = torch.Generator().manual_seed(options.seed)
    steps = options.epochs * -(-len(pixels) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    total = weight = 0.0
    for _ in range(options.epochs):
        total = weight = 0.0
        order = torch.randperm(len(pixels), generator=generator).to(pixels.device)
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            known = ~targets[batch].isnan()
            if not known.any():
                schedule.step()
                continue
            losses = F.binary_cross_entropy_with_logits(
                model.logits(pixels[batch])[known], targets[batch][known], reduction="none"
            )
            optimizer.zero_grad()
            torch.autograd.backward(losses.mean())
            optimizer.step()
            schedule.step()
            total += losses.detach().sum().item()
            weight += losses.numel()
    return total / weight


@torch.inference_mode()
def _validate(
    model: PatchClassifier,
    prepared: PreparedFolder,
    names: list[str],
    options: LinearOptions,
    device: torch.device,
) -> dict[str, float | None]:
    """AUROC of every label on split ``validate``; ``None`` where one class is missing."""
    rows = {row["key"]: row for row in prepared.rows() if row["split"] == "validate"}
    if not rows:
        logger.warning("split 'validate' is empty: the linear teacher is not measured")
        return dict.fromkeys(names)
    pixels, targets = _tensors(prepared, rows, names, options.input_size)
    batches = [pixels[i : i + BATCH_SIZE] for i in range(0, len(pixels), BATCH_SIZE)]
    scores = torch.cat([model.logits(batch.to(device)).cpu() for batch in batches])
    auroc: dict[str, float | None] = {}
    for column, name in enumerate(names):
        known = ~targets[:, column].isnan()
        truth = targets[known, column]
        both = 0 < int(truth.sum()) < len(truth)
        auroc[name] = round(float(roc_auc_score(truth, scores[known, column])), 4) if both else None
    return auroc


def _learnable(names: list[str], rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Labels with at least one certain positive and one certain negative, and the others."""
    kept = [n for n in names if {PRESENT, ABSENT} <= {row["labels"][n] for row in rows}]
    return kept, [name for name in names if name not in kept]


def _tensors(
    prepared: PreparedFolder, rows: Mapping[str, dict[str, Any]], names: list[str], size: int
) -> tuple[Tensor, Tensor]:
    """Pictures ``(N, 3, S, S)`` float32 and targets ``(N, L)``, NaN where not 0 or 1."""
    transform = SquashAndScale(size)
    pixels, targets = [], []
    for key, png in prepared.iter_images():
        if key in rows:
            image = torch.from_numpy(decode_png(png).copy()).permute(2, 0, 1)
            pixels.append(transform(to_pictures(image[None])[0]))
            labels = [rows[key]["labels"][name] for name in names]
            targets.append([v if v in (PRESENT, ABSENT) else np.nan for v in labels])
    return torch.stack(pixels), torch.tensor(targets, dtype=torch.float32)


def _saved_options(options: LinearOptions) -> dict[str, Any]:
    return {name: value for name, value in asdict(options).items() if name != "weights"}


def _config(options: LinearOptions) -> dict[str, Any]:
    """``config.json`` of a fitted teacher, checked against the options."""
    if not LinearTeacher.is_fitted(options):
        raise FileNotFoundError(
            f"the linear teacher has not been fitted: expected {CHECKPOINT} and {CONFIG} in "
            f"{options.weights}. Run 'arra-med features': it fits the teacher first."
        )
    path = options.weights / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        saved: dict[str, Any] = config["options"]
        differing = [
            f"{name} ({saved.get(name)!r} there, {value!r} asked for)"
            for name, value in _saved_options(options).items()
            if saved.get(name) != value
        ]
        _ = config["labels"], config["fitted_on"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is not of a fitted linear teacher: {error!r}") from error
    if differing:
        raise RequestError(
            f"the linear teacher in {options.weights} was fitted with other options: "
            f"{', '.join(differing)}. Delete the folder to fit it again, or set those options."
        )
    return config
