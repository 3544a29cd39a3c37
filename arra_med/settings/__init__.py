"""Every setting of a run, section by section: what a YAML file may say.

Each verb reads the sections it needs; ``arra-med validate`` reads all. See ``arra_med.config`` for
the rules of reading.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from arra_med.errors import RequestError
from arra_med.settings.checks import not_negative
from arra_med.settings.data import (
    AdversarialTerm,
    Features,
    Ingest,
    PerceptualTerm,
    Privacy,
    Tokenizer,
    TokenizerTraining,
)
from arra_med.settings.model import Alignment, Backbone, Llama, Lora
from arra_med.settings.results import (
    Diffusers,
    Evaluation,
    Generation,
    Goal,
    Memorisation,
    OtherPictures,
)
from arra_med.settings.training import MixtureFolder, Training

__all__ = [
    "AdversarialTerm",
    "Alignment",
    "Backbone",
    "Diffusers",
    "Evaluation",
    "Features",
    "Generation",
    "Goal",
    "Ingest",
    "Llama",
    "Lora",
    "Memorisation",
    "MixtureFolder",
    "OtherPictures",
    "Paths",
    "PerceptualTerm",
    "Privacy",
    "Settings",
    "Tokenizer",
    "TokenizerTraining",
    "Training",
    "section",
]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where things are. Every folder but ``output`` defaults to one inside it.

    Attributes:
        output: the run's root folder.
        prepared: written by ``ingest``.
        tokenizer: written by ``train-tokenizer``.
        run: written by ``train``.
        export: the model that ``generate`` draws with; by default ``<run>/export``.
        generated: written by ``generate``.
        evaluation: written by ``evaluate`` and ``report``.
    """

    output: Path
    prepared: Path | None = None
    tokenizer: Path | None = None
    run: Path | None = None
    export: Path | None = None
    generated: Path | None = None
    evaluation: Path | None = None

    def folder(
        self,
        name: Literal["prepared", "tokenizer", "run", "export", "generated", "evaluation"],
    ) -> Path:
        """The folder called ``name``, given or default."""
        given: Path | None = getattr(self, name)
        if given is not None:
            return given
        return self.folder("run") / "export" if name == "export" else self.output / name


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run. Sections that a verb does not need may be absent."""

    paths: Paths
    seed: int = 0
    device: str = "auto"
    ingest: Ingest | None = None
    tokenizer: Tokenizer | None = None
    features: Features | None = None
    backbone: Backbone | None = None
    alignment: Alignment = field(default_factory=Alignment)
    training: Training | None = None
    generation: Generation = field(default_factory=Generation)
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        not_negative(self, "seed")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {self.device!r}")
        if self.training is not None and self.alignment.enabled and self.features is None:
            raise ValueError(
                "alignment is on but there is no 'features' section to say which teacher: "
                "add one, or set alignment.enabled to false"
            )
        llama = None if self.backbone is None else self.backbone.llama
        if llama is not None and self.alignment.enabled:
            self.alignment.check_layer(llama.num_layers)


def section(value: T | None, name: str, verb: str) -> T:
    """A section that a verb needs.

    Raises:
        RequestError: if the configuration does not have it.
    """
    if value is None:
        raise RequestError(f"'arra-med {verb}' needs a '{name}:' section in the configuration")
    return value
