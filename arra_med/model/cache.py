"""What a model keeps of the tokens it has read: its name, what is in it, whether it is right."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from arra_med.errors import RequestError

CACHE = next(
    name
    for name in ("cache", "past_key_values")  # the second before transformers 5.24
    if name in {field.name for field in fields(CausalLMOutputWithPast)}
)
"""Keyword of forward passes and attribute of their outputs."""

_TOLERANCE = 0.05
"""Largest relative difference that rounding makes (bf16)."""


def kept(cache: Any) -> Iterator[tuple[bool, Tensor]]:  # noqa: ANN401 - any of transformers' caches
    """Tensors of a cache, and whether each grows with every token, as keys and values do."""
    for layer in cache.layers:
        for name, value in vars(layer).items():
            for tensor in value.values() if isinstance(value, dict) else (value,):
                if isinstance(tensor, Tensor):
                    yield name in ("keys", "values"), tensor


def step_mask(cache: Any, mask_BT: Tensor) -> Tensor | None:  # noqa: ANN401
    """The attention mask of a step that goes on from ``cache``, which is ``None`` at the first.

    ``None`` for a model without attention: some (Mamba) take a mask for one of the new tokens.
    """
    return mask_BT if cache is None or any(grows for grows, _ in kept(cache)) else None


@torch.no_grad()
def check_states(model: PreTrainedModel) -> None:
    """Try a model that keeps states beside keys and values: are cached steps what whole passes are?

    Raises:
        RequestError: if they are not, for rows of unequal lengths, or it keeps no cache.
    """
    if not getattr(model, "_is_stateful", False):
        return
    was_training = model.training
    model.eval()
    refused = f"{type(model).__name__} cannot draw: "
    try:
        difference = _difference(model)
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise RequestError(f"{refused}it keeps no cache that is known here ({error})") from error
    finally:
        model.train(was_training)
    if not difference <= _TOLERANCE:
        raise RequestError(
            f"{refused}token by token, with its cache, it gives other logits than for a whole "
            "sequence. Name another model in backbone"
        )


def _difference(model: PreTrainedModel) -> float:
    """Norm of what cached steps change of the logits of two rows, relative to the logits' own."""
    device = model.get_input_embeddings().weight.device
    ids = torch.arange(16, device=device).reshape(2, 8)
    padded, prefix = 2, 5
    mask = torch.ones_like(ids)
    mask[0, :padded] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache, logits = None, []
    for start, end in ((0, prefix), *((i, i + 1) for i in range(prefix, ids.shape[1]))):
        output = model(
            input_ids=ids[:, start:end],
            attention_mask=step_mask(cache, mask[:, :end]),
            position_ids=positions[:, start:end],
            use_cache=True,
            **{CACHE: cache},
        )
        cache = getattr(output, CACHE)
        logits.append(output.logits[:, -1])
    stepwise = torch.stack(logits, dim=1).float()
    whole = torch.cat(
        [
            model(input_ids=row[None, skip:], use_cache=False).logits[:, prefix - 1 - skip :]
            for row, skip in zip(ids, (padded, 0), strict=True)
        ]
    ).float()
    relative: float = ((stepwise - whole).norm() / whole.norm()).item()
    return relative
