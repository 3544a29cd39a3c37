"""The output head apart from the decoder, so that logits need never all exist at once."""

from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel


class SplitModel(NamedTuple):
    """A causal language model in two parts.

    Attributes:
        decoder: ``input_ids`` to an output with ``last_hidden_state`` ``(B, T, D)``.
        head: ``(…, D)`` to logits ``(…, V)``.
    """

    decoder: nn.Module
    head: nn.Module


@torch.no_grad()
def split_head(model: PreTrainedModel) -> SplitModel | None:
    """Decoder and head, if the head's outputs are the model's logits as they are.

    Architectures that scale or cap logits after the head (Gemma 2, Cohere, Granite) give ``None``:
    their own ``forward`` must be used. No list of names decides this, but a try on three tokens.
    """
    decoder = getattr(model, model.base_model_prefix, None)
    head = model.get_output_embeddings()
    if not isinstance(decoder, nn.Module) or decoder is model or head is None:
        return None
    was_training = model.training
    model.eval()  # without dropout both ways are the same computation
    weight = model.get_input_embeddings().weight
    ids = torch.arange(3, device=weight.device)[None]
    expected = model(input_ids=ids, use_cache=False).logits
    hidden = getattr(decoder(input_ids=ids, use_cache=False), "last_hidden_state", None)
    model.train(was_training)
    if hidden is None or hidden.shape[-1] != getattr(head, "in_features", hidden.shape[-1]):
        return None
    return SplitModel(decoder, head) if torch.equal(head(hidden), expected) else None
