"""The small residual network behind the ``cnn`` judge and extractor, and how it is fitted."""

import logging
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import trange

from arra_med.errors import RequestError, WorkError
from arra_med.eval.evaluator import FittedOptions
from arra_med.eval.fitted_files import load_fitted, read_fitted, save_fitted
from arra_med.eval.inference import check_pictures, decoding, to_tensor
from arra_med.schema import ABSENT, PRESENT
from arra_med.store import PreparedFolder

LOG = logging.getLogger(__name__)

_WIDTHS = (16, 32, 64, 96)


@dataclass(frozen=True, kw_only=True)
class CnnOptions(FittedOptions):
    """How the network is fitted and where it is kept; judge and extractor may share one.

    Attributes:
        weights: see :class:`FittedOptions`.
        fit_on: see :class:`FittedOptions`.
        input_size: side of the square picture it sees, in pixels.
        dimension: length of its feature vector.
        epochs: passes over the training split.
        batch_size: pictures an optimizer step.
        learning_rate: AdamW's peak, in a one-cycle schedule.
        seed: of initial weights, order and augmentation.
        min_positives: findings with fewer present, or fewer absent, training pictures are not
            judged.
    """

    input_size: int = 64
    dimension: int = 32
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    min_positives: int = 10

    def __post_init__(self) -> None:
        if self.input_size < 32:
            raise ValueError(f"input_size must be at least 32, got {self.input_size}")
        names = ("dimension", "epochs", "batch_size", "learning_rate", "min_positives")
        wrong = [name for name in names if getattr(self, name) <= 0]
        if wrong:
            raise ValueError(f"must be positive: {', '.join(wrong)}")

    def to_json(self) -> dict[str, Any]:
        """What the fit depends on beside the pictures."""
        places = [place.name for place in fields(FittedOptions)]
        return {name: value for name, value in asdict(self).items() if name not in places}


class CnnNetwork(nn.Module):
    """Residual network: pictures to features to one logit a finding.

    Args:
        channels: 1 or 3.
        input_size: side to which pictures are brought, in pixels.
        dimension: length D of the feature vector.
        num_findings: length F of the output.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self, *, channels: int, input_size: int, dimension: int, num_findings: int
    ) -> None:
        super().__init__()
        self.channels = channels
        self.input_size = input_size
        stem = nn.Sequential(
            nn.Conv2d(channels, _WIDTHS[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTHS[0]),
            nn.ReLU(),
        )
        blocks = [_down(a, b) for a, b in pairwise(_WIDTHS)]
        self.body = nn.Sequential(stem, *blocks)
        self.embed = nn.Linear(2 * _WIDTHS[-1], dimension)
        self.register_buffer("feature_mean", torch.zeros(dimension))
        self.register_buffer("feature_std", torch.ones(dimension))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(dimension, num_findings))

    def prepare(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` uint8 to ``(B, C, S, S)`` float32 about [-2, 2].

        Raises:
            ValueError: if they are not uint8 pictures with the network's channels.
        """
        check_pictures(images)
        if images.shape[1] != self.channels:
            raise ValueError(f"expected {self.channels} channels, got {images.shape[1]}")
        pixels = (images.float() / 255 - 0.5) / 0.25
        size = (self.input_size, self.input_size)
        if pixels.shape[2:] != size:
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        return pixels

    def embedding(self, pixels: Tensor) -> Tensor:
        """``(B, C, S, S)`` float32 to ``(B, D)`` float32, what the last layer sees."""
        maps = self.body(pixels)
        pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        embedding: Tensor = self.embed(pooled)
        return embedding

    def features(self, pixels: Tensor) -> Tensor:
        """The embedding with mean 0 and deviation 1 on training pictures, ``(B, D)`` float32.

        KID's kernel depends on the scale of features, which training leaves arbitrary.
        """
        return (self.embedding(pixels) - self.feature_mean) / self.feature_std

    @torch.no_grad()
    def standardise(self, pixels: Tensor) -> None:
        """Fix the mean and the deviation that :meth:`features` removes, from training pictures."""
        parts = [pixels[start : start + 256] for start in range(0, len(pixels), 256)]
        embeddings = torch.cat([self.embedding(part) for part in parts])
        self.feature_mean.copy_(embeddings.mean(dim=0))
        self.feature_std.copy_(embeddings.std(dim=0).clamp(min=1e-3))

    def forward(self, pixels: Tensor) -> Tensor:
        """``(B, C, S, S)`` float32 to ``(B, F)`` logits."""
        logits: Tensor = self.head(self.embedding(pixels))
        return logits


def fit(options: CnnOptions, prepared: PreparedFolder, device: torch.device) -> None:
    """Fit the network on the training split and write it to ``options.weights``.

    Binary cross-entropy on labels that are present or absent; uncertain and unknown ones do not
    count. Augmentation: shifts of up to 1/16 of the side, brightness and contrast within 15 %;
    no flips, which would exchange left and right. The same options on the same machine give the
    same weights.

    Raises:
        RequestError: if no finding has enough training pictures.
        WorkError: if the loss is not finite.
    """
    rows = prepared.rows("train")
    findings, not_judged = _findings(rows, prepared.label_names, options.min_positives)
    if not findings:
        raise RequestError(
            f"cannot fit a judge on {prepared.folder}: no finding has {options.min_positives} "
            "present and as many absent training pictures; lower its own min_positives "
            "(evaluation.judges: [{name: cnn, min_positives: …}], which is not "
            "evaluation.min_positives), or name a judge with weights of its own"
        )
    LOG.info("fitting a judge of %d findings on %d training pictures", len(findings), len(rows))
    labels = torch.tensor(
        [[-1 if (v := row["labels"][name]) is None else v for name in findings] for row in rows]
    )
    with torch.random.fork_rng(devices=[]):  # initial weights, without touching the global seed
        torch.manual_seed(options.seed)
        network = CnnNetwork(
            channels=prepared.channels,
            input_size=options.input_size,
            dimension=options.dimension,
            num_findings=len(findings),
        )
    pixels = _pixels(network, prepared, [row["key"] for row in rows])
    network.to(device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        _optimise(network, pixels, labels, options, device)
    network.cpu().standardise(pixels)
    save_fitted(
        options.weights,
        network.state_dict(),
        {
            "name": f"cnn-{options.input_size}",
            "options": options.to_json(),
            "channels": prepared.channels,
            "findings": findings,
            "not_judged": not_judged,
            "dataset": prepared.dataset,
            "train_pictures": len(rows),
            "fitted_on": prepared.content_hash,
            "fitted_splits": ["train"],
        },
        prepared,
    )


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each picture by up to 1/16 of its side and vary brightness and contrast by 15 %.

    Args:
        pixels: ``(B, C, S, S)`` float32.
        generator: on the CPU.

    Returns:
        ``(B, C, S, S)``; what a shift uncovers repeats the border.
    """
    batch, _, side, _ = pixels.shape
    reach = max(1, side // 16)
    padded = functional.pad(pixels, (reach,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * reach + 1, (batch, 2), generator=generator).tolist()
    shifted = torch.stack(
        [
            picture[:, top : top + side, left : left + side]
            for picture, (top, left) in zip(padded, offsets, strict=True)
        ]
    )
    noise = torch.rand((2, batch, 1, 1, 1), generator=generator) * 2 - 1
    contrast, brightness = 1 + 0.15 * noise[0], 0.3 * noise[1]
    return shifted * contrast.to(pixels.device) + brightness.to(pixels.device)


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over labels that are 0 or 1; zero if there is none.

    Args:
        logits: ``(B, F)`` float32.
        labels: ``(B, F)`` integers; any value but 0 and 1 is left out.
    """
    known = (labels == ABSENT) | (labels == PRESENT)
    target = (labels == PRESENT).float()
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def _down(inputs: int, outputs: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock  # takes seconds to import

    shortcut = nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
    )
    block: nn.Module = BasicBlock(inputs, outputs, stride=2, downsample=shortcut)
    return block


def _findings(
    rows: list[dict[str, Any]], names: list[str], least: int
) -> tuple[list[str], dict[str, str]]:
    """Findings with enough training pictures, and why the others are not judged."""
    findings, not_judged = [], {}
    for name in names:
        values = [row["labels"][name] for row in rows]
        present, absent = values.count(PRESENT), values.count(ABSENT)
        if min(present, absent) >= least:
            findings.append(name)
        else:
            not_judged[name] = (
                f"{present} training pictures with it and {absent} without; the judge needs "
                f"{least} of each"
            )
    return findings, not_judged


def _pixels(network: CnnNetwork, prepared: PreparedFolder, keys: list[str]) -> Tensor:
    """``(N, C, S, S)`` float32 of the given samples, in their order, one part in memory at once."""
    place = {key: row for row, key in enumerate(keys)}
    size = network.input_size
    pixels = torch.empty((len(keys), network.channels, size, size))
    found = set()
    for key, png in prepared.iter_images():
        if key in place:
            with decoding():
                pixels[place[key]] = network.prepare(to_tensor([png]))[0]
            found.add(key)
    missing = sorted(set(keys) - found)
    if missing:
        raise RequestError(
            f"{prepared.folder}: no picture for {len(missing)} training samples, first "
            f"{missing[:3]}: make the folder again"
        )
    return pixels


def _optimise(
    network: CnnNetwork,
    pixels: Tensor,
    labels: Tensor,
    options: CnnOptions,
    device: torch.device,
) -> None:
    generator = torch.Generator().manual_seed(options.seed)
    steps = -(-len(pixels) // options.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.epochs * steps
    )
    network.train()
    for epoch in trange(options.epochs, desc="judge", unit="epoch"):
        order = torch.randperm(len(pixels), generator=generator)
        for rows in np.array_split(order.numpy(), steps):
            batch = augment(pixels[rows].to(device), generator)
            loss = masked_bce(network(batch), labels[rows].to(device))
            if not torch.isfinite(loss):
                raise WorkError(f"the judge's loss is {loss.item()} in epoch {epoch}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()


def read_config(options: CnnOptions) -> dict[str, Any]:
    """Configuration of fitted weights.

    Raises:
        FileNotFoundError: if they are not there.
        RequestError: if they are damaged or were fitted with other options.
    """
    return read_fitted(options.weights, "judge 'cnn'", {"options": options.to_json()})


def load(options: CnnOptions, config: dict[str, Any]) -> CnnNetwork:
    """The fitted network, frozen; ``config`` is from :func:`read_config`."""
    network = CnnNetwork(
        channels=config["channels"],
        input_size=options.input_size,
        dimension=options.dimension,
        num_findings=len(config["findings"]),
    )
    network.load_state_dict(load_fitted(options.weights))
    return network.eval().requires_grad_(False)
