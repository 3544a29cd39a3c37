"""LoRA (Hu et al., arXiv 2106.09685): small low-rank updates instead of all weights.

peft adapts the linear layers of the decoder blocks. A low-rank update cannot teach a model tokens
that it has never seen, so the image tokens' rows of embedding and head are trained in full, as
parameters of their own (:class:`TrainedRows`): every other row stays bit-identical whatever the
optimizer does to its flattened groups, and no gradient is masked. At export both are merged into
ordinary weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from arra_med.errors import RequestError
from arra_med.model.backbones import decoder_blocks
from arra_med.model.layout import ImageLayout
from arra_med.settings import Lora

_ADAPTER = "default"
"""peft's name of the one adapter of a layer."""
_CLOSE = 1e-4
"""Largest difference allowed between a layer and the same layer with its rows split off."""


class TrainedRows(nn.Module):
    """A layer of V rows, one a token, of which some are trained and the rest are frozen.

    Args:
        base: the frozen layer, V rows.
        rows: ``(R, D)`` parameter that stands for rows ``row_ids`` of it; tied layers share it.
        row_ids: ``(R,)`` int64.
    """

    row_ids: Tensor

    def __init__(self, base: nn.Embedding | nn.Linear, rows: nn.Parameter, row_ids: Tensor) -> None:
        super().__init__()
        self.base = base
        self.rows = rows
        self.register_buffer("row_ids", row_ids, persistent=False)

    @property
    def weight(self) -> Tensor:
        """The frozen layer's weight, for code that asks a layer for its dtype or shape."""
        return self.base.weight

    def merged(self, state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """The plain layer's part of a state dictionary.

        Args:
            state: holds this layer's tensors, whole.
            prefix: of this layer's names in it, without the last dot.
        """
        weight = state[f"{prefix}.base.weight"].clone()
        weight[self.row_ids.to(weight.device)] = state[f"{prefix}.rows"]
        return {f"{prefix}.weight": weight}


class EmbeddingRows(TrainedRows):
    """An embedding some of whose rows are trained."""

    index_of_id: Tensor

    base: nn.Embedding

    def __init__(self, base: nn.Embedding, rows: nn.Parameter, row_ids: Tensor) -> None:
        super().__init__(base, rows, row_ids)
        index = torch.full((base.num_embeddings,), -1)
        index[row_ids] = torch.arange(len(row_ids))
        self.register_buffer("index_of_id", index, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """``(B, T)`` int64 ids to ``(B, T, D)``."""
        index = self.index_of_id[ids]
        trained = functional.embedding(index.clamp(min=0), self.rows)
        scale = getattr(self.base, "embed_scale", None)  # Gemma multiplies inside its embedding
        if scale is not None:
            trained = trained * torch.as_tensor(scale, device=trained.device).to(trained.dtype)
        return torch.where((index >= 0)[..., None], trained, self.base(ids))


class HeadRows(TrainedRows):
    """An output head some of whose rows (and biases) are trained."""

    def __init__(self, base: nn.Linear, rows: nn.Parameter, row_ids: Tensor) -> None:
        super().__init__(base, rows, row_ids)
        self.row_biases: nn.Parameter | None = None
        if base.bias is not None:
            self.row_biases = nn.Parameter(base.bias.detach()[row_ids].clone())

    def forward(self, hidden: Tensor) -> Tensor:
        """``(B, T, D)`` hidden states to ``(B, T, V)`` logits."""
        trained = functional.linear(hidden, self.rows, self.row_biases)
        logits: Tensor = self.base(hidden)
        return logits.index_copy(-1, self.row_ids, trained.to(logits.dtype))

    def merged(self, state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """See :meth:`TrainedRows.merged`."""
        plain = super().merged(state, prefix)
        if self.row_biases is not None:
            bias = state[f"{prefix}.base.bias"].clone()
            bias[self.row_ids.to(bias.device)] = state[f"{prefix}.row_biases"]
            plain[f"{prefix}.bias"] = bias
        return plain


def add_lora(model: PreTrainedModel, lora: Lora, layout: ImageLayout, *, seed: int) -> None:
    """Freeze the model and add what LoRA trains, in place; its output does not change yet.

    Args:
        model: the backbone, its vocabulary already extended.
        lora: rank, scale and layers.
        layout: whose rows of embedding and head are trained in full.
        seed: of the adapters' weights.

    Raises:
        RequestError: if peft is not installed, a layer's name fits nothing, or the embedding or
            head is of a kind whose rows cannot be split off.
    """
    peft = _peft()
    names = target_names(model, lora.target_modules)
    conv = any(isinstance(model.get_submodule(name), Conv1D) for name in names)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names,
        fan_in_fan_out=conv,
        bias="none",
    )
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_A." in name or ".lora_B." in name)
    _split_rows(model, torch.tensor(image_rows(layout)))


def image_rows(layout: ImageLayout) -> list[int]:
    """Token ids whose rows of embedding and head are trained in full: all but text's."""
    layers = (layout.start_ids, layout.end_ids, layout.row_end_ids, layout.size_ids)
    return sorted({*layout.code_ids, *(token for ids in layers for token in ids)})


def target_names(model: PreTrainedModel, wanted: Sequence[str] | None) -> list[str]:
    """Full names of the linear layers that get an adapter.

    Args:
        model: the backbone.
        wanted: last parts of names (``q_proj``, ``mlp.up_proj``); ``None`` for every linear layer
            of the decoder blocks.

    Raises:
        RequestError: naming those in ``wanted`` that no linear layer of the blocks has.
    """
    blocks = decoder_blocks(model, model.config.get_text_config().num_hidden_layers)
    inside = set(blocks.modules())
    names = [
        name
        for name, module in model.named_modules()
        if module in inside and isinstance(module, (nn.Linear, Conv1D))
    ]
    if wanted is None:
        chosen, unknown = names, []
    else:
        chosen = [name for name in names if any(_ends(name, part) for part in wanted)]
        unknown = [part for part in wanted if not any(_ends(name, part) for name in names)]
    if unknown or not chosen:
        known = sorted({name.rpartition(".")[2] for name in names})
        raise RequestError(
            f"backbone.lora.target_modules: no linear layer of {type(model).__name__}'s decoder "
            f"blocks is called {', '.join(unknown) or 'anything'}; they are called "
            f"{', '.join(known) or 'nothing: it has none, so train it without LoRA'}"
        )
    return chosen


@torch.no_grad()
def merged_state(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the plain model that computes what the adapted one does.

    ``W + α/r · B·A`` is summed in float32 at least and rounded once.

    Args:
        model: as :func:`add_lora` left it; its own tensors are not read (they may be shards).
        state: its state dictionary, gathered.

    Returns:
        Tensors under the names they had before :func:`add_lora`, in the dtype of ``state``.
    """
    plain = dict(state)
    for prefix, layer in _adapters(model):
        weight = plain.pop(f"{prefix}.base_layer.weight")
        precise = torch.promote_types(weight.dtype, torch.float32)
        a, b = (
            plain.pop(f"{prefix}.{matrix}.{_ADAPTER}.weight").to(precise)
            for matrix in ("lora_A", "lora_B")
        )
        update = (b @ a) * layer.scaling[_ADAPTER]
        update = update.T if layer.fan_in_fan_out else update
        plain[f"{prefix}.weight"] = (weight.to(precise) + update).to(weight.dtype)
        if f"{prefix}.base_layer.bias" in plain:
            plain[f"{prefix}.bias"] = plain.pop(f"{prefix}.base_layer.bias")
    for prefix, rows in _rows(model):
        whole = rows.merged(state, prefix)
        plain = {name: t for name, t in plain.items() if not name.startswith(f"{prefix}.")} | whole
    return plain


def remove_lora(model: PreTrainedModel) -> None:
    """Take the added modules out again, in place and unmerged: the plain model's structure."""
    for _, layer in _adapters(model):
        _replace(model, layer, layer.get_base_layer())
    for _, rows in _rows(model):
        _replace(model, rows, rows.base)


@torch.no_grad()
def _split_rows(model: PreTrainedModel, row_ids: Tensor) -> None:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or not (head is None or type(head) is nn.Linear):
        raise RequestError(
            f"backbone.lora needs an ordinary embedding and linear head, {type(model).__name__} "
            f"has {type(embedding).__name__} and {type(head).__name__}: train it without LoRA"
        )
    rows = nn.Parameter(embedding.weight[row_ids].clone())
    split: TrainedRows = EmbeddingRows(embedding, rows, row_ids)
    edge = row_ids[[0, -1]][None]
    _check_split(split, embedding, torch.cat([edge, torch.zeros_like(edge)], dim=1))
    _replace(model, embedding, split)
    if head is None:
        return
    if head.weight is not embedding.weight:
        rows = nn.Parameter(head.weight[row_ids].clone())
    split = HeadRows(head, rows, row_ids)
    _check_split(
        split, head, torch.linspace(-1, 1, head.in_features, dtype=head.weight.dtype)[None, None]
    )
    _replace(model, head, split)


def _check_split(split: TrainedRows, plain: nn.Module, probe: Tensor) -> None:
    difference = (split(probe) - plain(probe)).abs().max().item()
    if not difference <= _CLOSE:
        raise RequestError(
            f"backbone.lora cannot train single rows of {type(plain).__name__}: split off, they "
            f"give values that differ by {difference:.2g}; train this model without LoRA"
        )


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` is a child, except inside ``new`` itself."""
    for parent in list(model.modules()):
        if parent is new:
            continue
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)


def _adapters(model: nn.Module) -> list[tuple[str, Any]]:
    _peft()
    from peft.tuners.lora import LoraLayer

    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)]


def _rows(model: nn.Module) -> list[tuple[str, TrainedRows]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, TrainedRows)]


def _ends(name: str, part: str) -> bool:
    return f".{name}".endswith(f".{part}")


def _peft() -> Any:  # noqa: ANN401 - a module that may not be installed
    try:
        import peft
    except ImportError as error:
        raise RequestError(
            f"backbone.lora needs the package peft, which is not installed here ({error}): "
            "'pip install peft', or remove backbone.lora to train all weights"
        ) from error
    return peft
