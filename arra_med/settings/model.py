"""Settings of the language model and of ARRA's alignment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from arra_med.errors import RequestError
from arra_med.settings.checks import not_negative, positive

_BYTES = 259


@dataclass(frozen=True, kw_only=True)
class Llama:
    """Sizes of a randomly initialised LLaMA and of the text vocabulary trained for it."""

    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 4
    intermediate_size: int = 688
    text_vocabulary: int = 1024

    def __post_init__(self) -> None:
        positive(
            self, "hidden_size", "num_layers", "num_heads", "intermediate_size", "text_vocabulary"
        )
        if self.text_vocabulary < _BYTES:
            raise ValueError(
                f"text_vocabulary must be at least {_BYTES}, one token a byte and three of its "
                f"own, got {self.text_vocabulary}"
            )
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError("hidden_size must be an even multiple of num_heads")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adaptation of a pretrained backbone (arXiv 2106.09685), merged at export.

    The rows of image tokens in embedding and head are trained in full beside it.

    Attributes:
        rank: r of the updates.
        alpha: an update counts ``alpha / rank`` times.
        dropout: of the adapters' input.
        target_modules: last parts of the names of adapted linear layers (``q_proj``); by default
            all of the decoder blocks.
    """

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        positive(self, "rank", "alpha")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.target_modules is not None and not all([self.target_modules, *self.target_modules]):
            raise ValueError("target_modules must be names of layers, or left out for all")


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """The language model: a folder that transformers opens, or a LLaMA from random weights.

    Attributes:
        pretrained: folder of an ``AutoModelForCausalLM`` and its tokenizer, or ``owner/name``
            of one in the asset folder.
        llama: sizes of a new model; exactly one of the two is given.
        lora: train low-rank updates of a pretrained model; by default all weights are trained.
        dropout: of attention, where the architecture has it; in Chameleon's family of what each
            half of a block adds.
        zero_image_head: start with the output head's image rows at zero, as ARRA's authors do with
            a model that writes but does not draw.
        max_prompt_tokens: longest prompt; longer ones are refused or cut, see ``long_prompts``.
        long_prompts: ``refuse`` or ``truncate`` (counted in the log).
    """

    pretrained: Path | None = None
    llama: Llama | None = None
    lora: Lora | None = None
    dropout: float = 0.0
    zero_image_head: bool = False
    max_prompt_tokens: int = 256
    long_prompts: Literal["refuse", "truncate"] = "refuse"

    def __post_init__(self) -> None:
        positive(self, "max_prompt_tokens")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if (self.pretrained is None) == (self.llama is None):
            raise ValueError("give exactly one of 'pretrained' (a folder) and 'llama' (sizes)")
        if self.zero_image_head and self.pretrained is None:
            raise ValueError("zero_image_head is for a pretrained model: remove it")
        if self.lora is not None and self.pretrained is None:
            raise ValueError(
                "lora adapts a pretrained model; a new LLaMA has random weights and is trained "
                "in full: remove lora, or give 'pretrained'"
            )


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """ARRA's alignment term (arXiv 2503.07334); on by default.

    Attributes:
        enabled: whether the term is added at all.
        span: ``hybnext`` aligns every position that predicts an image code; ``rep`` aligns one
            ``<REP>`` token put before the image.
        layer: decoder block whose output is aligned, counted from 1.
        projector: ``mlp`` (two layers, GELU) or ``pool`` (one linear map of the span's mean).
        objective: ``cosine`` (1 - cos) or ``mse``.
        weight: λ; 0 trains exactly as ``enabled: false``.
    """

    enabled: bool = True
    span: Literal["hybnext", "rep"] = "hybnext"
    layer: int = 1
    projector: Literal["mlp", "pool"] = "mlp"
    objective: Literal["cosine", "mse"] = "cosine"
    weight: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "layer")
        not_negative(self, "weight")

    def check_layer(self, num_blocks: int) -> None:
        """Raise ``RequestError`` unless the backbone, of so many blocks, has the layer."""
        if self.layer > num_blocks:
            raise RequestError(
                f"alignment.layer is {self.layer}, the backbone has blocks 1 to {num_blocks}"
            )
