"""Settings of generation and evaluation."""

from dataclasses import dataclass
from typing import Literal

from arra_med.config import PluginConfig, plugin_field
from arra_med.registry import EXTRACTORS, JUDGES
from arra_med.settings.checks import not_negative, positive


@dataclass(frozen=True, kw_only=True)
class Generation:
    """``generate``: prompts to pictures.

    Attributes:
        split: which split's prompts.
        limit: at most so many prompts, taken evenly over the split; all if not given.
        images_per_prompt: pictures of each prompt.
        batch_size: pictures drawn together.
        guidance: classifier-free guidance g in u + g·(c - u); 1 for none.
        temperature: of sampling; 0 picks the likeliest code.
        top_k: sample among the k likeliest codes; 0 for all.
        size: height and width in pixels, for models whose vocabulary names them; by default the
            size the model was trained on.
    """

    split: Literal["train", "validate", "test"] = "test"
    limit: int | None = None
    images_per_prompt: int = 1
    batch_size: int = 16
    guidance: float = 4.0
    temperature: float = 1.0
    top_k: int = 2000
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        positive(self, "images_per_prompt", "batch_size")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size must be a height and a width in pixels, got {self.size}")
        not_negative(self, "temperature", "top_k", "guidance")
        if self.limit is not None:
            positive(self, "limit")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """``evaluate``: how the pictures are judged.

    Attributes:
        judge: classifier that says what a picture shows; never the run's teacher.
        extractor: encoder for FD and KID.
        bootstrap: resamples for intervals.
        min_positives: findings with fewer positive samples are reported as "too few", not scored.
        batch_size: pictures a forward pass.
        panels: pictures shown side by side in the report.
    """

    judge: PluginConfig = plugin_field(JUDGES)
    extractor: PluginConfig = plugin_field(EXTRACTORS)
    bootstrap: int = 1000
    min_positives: int = 20
    batch_size: int = 64
    panels: int = 12

    def __post_init__(self) -> None:
        positive(self, "bootstrap", "min_positives", "batch_size", "panels")
