"""Training of the study's teachers: by picture and prompt, by two views, or by known findings.

Image-text contrast is CLIP's (Radford et al., arXiv 2103.00020), image-image contrast SimCLR's
(Chen et al., arXiv 2002.05709). All train the same image tower with the same optimiser for the
same steps. No view is mirrored: the side of a finding matters. Pictures stay on the device as
bytes, and a batch's views are drawn there.

Shape suffixes: B pictures a batch, C channels, S side, L tokens, D length of a vector, F findings.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from arra_med.errors import WorkError

WARM_UP = 0.1  # share of the steps
WEIGHT_DECAY = 0.1
LARGEST_SCALE = 100.0  # of the logits, as in CLIP
TEMPERATURE = 0.1  # of image-image contrast


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far a view may differ from its picture; each number is drawn anew for each view.

    Attributes:
        smallest: least part of the side that a view shows.
        shift: most that it is moved beyond the border, in sides.
        rotation: in degrees, either way.
        brightness: most that is added, of the range from black to white.
        contrast: most that the factor around the picture's mean differs from 1.
        gamma: most that the logarithm of the exponent differs from 0.
        noise: largest standard deviation, of the range from black to white.
        blur: whether a share, from 0 to 1, of the picture is replaced by a blurred one.
    """

    smallest: float = 1.0
    shift: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    blur: bool = False


MILD = Augmentation(smallest=0.95, shift=0.02, brightness=0.05, contrast=0.1)
STRONG = Augmentation(
    smallest=0.7, rotation=10, brightness=0.15, contrast=0.3, gamma=0.3, noise=0.05, blur=True
)


def draw_views(
    pixels_BCSS: Tensor, side: int, how: Augmentation, generator: torch.Generator
) -> Tensor:
    """One view of each picture.

    Args:
        pixels_BCSS: uint8, C = 1 or 3.
        side: of the views, in pixels.
        how: how far they may differ.
        generator: on the pictures' device.

    Returns:
        ``(B, 3, side, side)`` float32 in ``[0, 1]``.
    """
    device, num = pixels_BCSS.device, len(pixels_BCSS)

    def uniform(low: float, high: float, *more: int) -> Tensor:
        """``(B, *more)`` or, without ``more``, ``(B, 1, 1, 1)``, uniformly drawn."""
        drawn = torch.rand(num, *(more or (1, 1, 1)), generator=generator, device=device)
        return low + (high - low) * drawn

    views = pixels_BCSS.float() / 255
    if how.blur:
        views = torch.lerp(views, _blurred(views), uniform(0, 1))
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    views = (views - mean) * uniform(1 - how.contrast, 1 + how.contrast) + mean
    views = (views + uniform(-how.brightness, how.brightness)).clamp(0, 1)
    if how.gamma:
        views = views ** uniform(-how.gamma, how.gamma).exp()
    if how.noise:
        noise = torch.randn(views.shape, generator=generator, device=device)
        views = views + noise * uniform(0, how.noise)
    scale = uniform(how.smallest, 1, 1)
    angle = uniform(-how.rotation, how.rotation, 1) * math.pi / 180
    centre = uniform(-1, 1, 2) * (1 - scale + 2 * how.shift)  # the picture's side is 2 long
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [torch.cat([cos, -sin, centre[:, :1]], 1), torch.cat([sin, cos, centre[:, 1:]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [num, 1, side, side], align_corners=False)
    views = F.grid_sample(views, grid, "bicubic", padding_mode="border", align_corners=False)
    return views.clamp(0, 1).expand(-1, 3, -1, -1)


def _blurred(views_BCSS: Tensor) -> Tensor:
    """Smoothed along both sides by the binomial 1 4 6 4 1 (a standard deviation of one pixel)."""
    line = torch.tensor([1.0, 4, 6, 4, 1], device=views_BCSS.device) / 16
    alone = F.pad(views_BCSS.flatten(0, 1)[:, None], (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(alone, line.view(1, 1, 1, 5)), line.view(1, 1, 5, 1)).view_as(
        views_BCSS
    )


def image_text_loss(image_BD: Tensor, text_BD: Tensor, prompt_B: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE; equal prompts of a batch are not each other's negatives.

    Args:
        image_BD: of any length.
        text_BD: of any length.
        prompt_B: int64, equal for equal prompts.
        scale: of the cosines, a scalar.

    Returns:
        The mean over both directions, a scalar.
    """
    logits = scale * F.normalize(image_BD.float()) @ F.normalize(text_BD.float()).T
    same = (prompt_B[:, None] == prompt_B).fill_diagonal_(False)
    logits = logits.masked_fill(same, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def two_views_loss(first_BD: Tensor, second_BD: Tensor, temperature: float) -> Tensor:
    """NT-Xent: each view finds the other one of its picture among all views of the batch."""
    vectors = F.normalize(torch.cat([first_BD, second_BD]).float())
    logits = vectors @ vectors.T / temperature
    logits = logits.masked_fill(torch.eye(len(logits), device=logits.device).bool(), -torch.inf)
    other = torch.arange(len(logits), device=logits.device).roll(len(first_BD))
    return F.cross_entropy(logits, other)


def findings_loss(logits_BF: Tensor, labels_BF: Tensor) -> Tensor:
    """Mean binary cross-entropy over the labels that are known.

    Args:
        logits_BF: of presence.
        labels_BF: 1 present, 0 absent, -1 not known.
    """
    known = labels_BF >= 0
    return F.binary_cross_entropy_with_logits(logits_BF.float()[known], labels_BF[known].float())


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The training split, on the device.

    Attributes:
        pixels: ``(N, C, S, S)`` uint8.
        ids: ``(N, L)`` int64, token ids of the prompts.
        prompts: ``(N,)`` int64, equal for equal prompts.
        labels: ``(N, F)`` int64: 1 present, 0 absent, -1 not known.
        mean: of the three channels, in ``[0, 1]``.
        std: of the three channels.
    """

    pixels: Tensor
    ids: Tensor
    prompts: Tensor
    labels: Tensor
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def views(
        self, chosen_B: Tensor, side: int, how: Augmentation, generator: torch.Generator
    ) -> Tensor:
        """``(B, 3, side, side)`` float32, as the image tower takes them."""
        views = draw_views(self.pixels[chosen_B], side, how, generator)
        mean, std = (views.new_tensor(value).view(3, 1, 1) for value in (self.mean, self.std))
        return (views - mean) / std


class ImageText(nn.Module):
    """Image and text tower, and how sharp their cosines are made."""

    def __init__(self, visual: TimmModel, text: HFTextEncoder, side: int) -> None:
        super().__init__()
        self.visual, self.text, self.side = visual, text, side
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, data: TrainingData, chosen_B: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of the chosen pictures, a scalar."""
        views = data.views(chosen_B, self.side, MILD, generator)
        with _half_precision(views.device):
            image, text = self.visual(views), self.text(data.ids[chosen_B])
        scale = self.logit_scale.exp().clamp(max=LARGEST_SCALE)
        return image_text_loss(image, text, data.prompts[chosen_B], scale)


class TwoViews(nn.Module):
    """The image tower before its projection, and a projection that is dropped afterwards."""

    def __init__(self, visual: TimmModel, dimension: int, side: int) -> None:
        super().__init__()
        width = visual.trunk.num_features
        self.trunk, self.side = visual.trunk, side
        self.projection = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, dimension)
        )

    def forward(self, data: TrainingData, chosen_B: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of the chosen pictures, a scalar."""
        pair = [data.views(chosen_B, self.side, STRONG, generator) for _ in range(2)]
        with _half_precision(pair[0].device):
            first, second = self.projection(self.trunk(torch.cat(pair))).chunk(2)
        return two_views_loss(first, second, TEMPERATURE)


class Labelled(nn.Module):
    """The image tower before its projection, and a linear classifier that is dropped afterwards."""

    def __init__(self, visual: TimmModel, findings: int, side: int) -> None:
        super().__init__()
        self.trunk, self.side = visual.trunk, side
        self.classifier = nn.Linear(visual.trunk.num_features, findings)

    def forward(self, data: TrainingData, chosen_B: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of the chosen pictures, a scalar."""
        views = data.views(chosen_B, self.side, MILD, generator)
        with _half_precision(views.device):
            logits = self.classifier(self.trunk(views))
        return findings_loss(logits, data.labels[chosen_B])


def _half_precision(device: torch.device) -> torch.autocast:
    """For the towers on a GPU; places of pixels and cosines need float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def train(
    model: ImageText | TwoViews | Labelled,
    data: TrainingData,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    step_done: Callable[[], None],
) -> list[float]:
    """Train ``model`` in place; the same seed on the same device gives the same weights.

    The pictures are shuffled every epoch, and those left over from full batches wait for the next.

    Args:
        model: on the data's device.
        data: the training split.
        epochs: times that it is seen.
        batch_size: pictures a step, at most all of them.
        learning_rate: after the warm-up; it then falls to 0 as a cosine.
        seed: of order and views.
        step_done: called after each step.

    Returns:
        The mean loss of each epoch.

    Raises:
        WorkError: if the loss is not finite.
    """
    device = data.pixels.device
    order = torch.Generator().manual_seed(2 * seed)
    generator = torch.Generator(device).manual_seed(2 * seed + 1)
    optimizer = _optimizer(model, learning_rate)
    steps = len(data.pixels) // batch_size
    losses: list[float] = []
    with _deterministic(device):
        for epoch in range(epochs):
            shuffled = torch.randperm(len(data.pixels), generator=order).to(device)
            batches = shuffled[: steps * batch_size].view(steps, batch_size)
            total = torch.zeros((), device=device)
            for step, chosen in enumerate(batches):
                rate = learning_rate * _schedule(epoch * steps + step, epochs * steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = model(data, chosen, generator)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                total += loss.detach()  # read once an epoch: the device need not wait
                step_done()
            losses.append(float(total) / steps)
            if not math.isfinite(losses[-1]):
                raise WorkError(
                    f"the loss of epoch {epoch + 1} is {losses[-1]}: lower --learning-rate"
                )
    return losses


def _optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW; biases, norms, the class token, positions and the scale do not decay."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim >= 2 and not name.endswith(("cls_token", "pos_embed"))
        groups[decays].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": WEIGHT_DECAY},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def _schedule(step: int, steps: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine to 0."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))) / 2


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Kernels that sum in a fixed order; as before afterwards."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    if device.type == "cuda":
        # not with warn_only: flash attention would then sum in any order
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False  # only costs time
    try:
        # the memory-efficient kernel, which masks would take, has no fixed order
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill
