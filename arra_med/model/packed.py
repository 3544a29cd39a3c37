"""Several samples in one row: the mask that keeps them apart, and whether a model honours it.

transformers finds packed samples in ``position_ids`` that restart, when it gets no mask and no
cache. To see whether there are any it reads a value back from the device in every forward pass;
a mask that is made here, from the same parts, spares that.

Shapes: B rows, T tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    and_masks,
    causal_mask_function,
    packed_sequence_mask_function,
)

from arra_med.errors import RequestError

_UNMASKED = "arra_med_causal"
"""Name of transformers' own SDPA for which it has no function that makes masks."""

AttentionInterface.register(_UNMASKED, sdpa_attention_forward)

_TOLERANCE = 0.05
"""Largest relative difference that rounding makes (bf16); positions that run on make one near 1."""


@contextmanager
def plain_causal(model: PreTrainedModel) -> Iterator[None]:
    """While this lasts, a model with full attention takes rows to hold one sample each.

    transformers would look for packed samples, and wait for the device to do so, in every forward
    pass. An attention that it has no masks for is asked for none.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    if before != "sdpa" or not _attends_to_all(model):
        yield
        return
    config._attn_implementation = _UNMASKED
    try:
        yield
    finally:
        config._attn_implementation = before


def packed_mask(model: PreTrainedModel, positions_BT: Tensor) -> Any | None:  # noqa: ANN401
    """The block-diagonal causal mask for ``attention_mask``, without waiting for the device.

    Args:
        model: a causal language model.
        positions_BT: int64, 0 where a sample begins.

    Returns:
        What the model's attention takes: ``(B, 1, T, T)``, bool or added to scores, or flex
        attention's ``BlockMask``. ``None`` where the model has other than full attention (sliding
        windows): transformers must make its masks, from the positions.
    """
    if not _attends_to_all(model):
        return None
    config = model.config.get_text_config()
    make = ALL_MASK_ATTENTION_FUNCTIONS.get(config._attn_implementation)
    if make is None:
        return None
    num_rows, length = positions_BT.shape
    sample_BT = (positions_BT == 0).cumsum(-1)
    return make(
        batch_size=num_rows,
        q_length=length,
        kv_length=length,
        q_offset=0,
        kv_offset=0,
        mask_function=and_masks(causal_mask_function, packed_sequence_mask_function(sample_BT)),
        attention_mask=None,
        allow_is_causal_skip=False,
        dtype=model.dtype,
        device=positions_BT.device,
        config=config,
    )


def _attends_to_all(model: PreTrainedModel) -> bool:
    """Whether every layer attends to everything before a token."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windows = ("sliding_window", "attention_chunk_size")
    return kinds == {"full_attention"} and not any(getattr(config, n, None) for n in windows)


@torch.no_grad()
def check_packing(model: PreTrainedModel) -> None:
    """Try packing on two short samples.

    Raises:
        RequestError: if the model takes no such mask or positions, or a sample sees the one before
            it in the row, or comes out otherwise than alone.
    """
    was_training = model.training
    model.eval()
    refused = f"training.pack_tokens: {type(model).__name__} cannot be packed: "
    remedy = ". Set training.pack_tokens to 0"
    try:
        leak, difference = _leak_and_difference(model)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise RequestError(f"{refused}it does not take the mask ({error}){remedy}") from error
    finally:
        model.train(was_training)
    if leak > 0 or difference > _TOLERANCE:
        how = "sees the one before it" if leak > 0 else "is not what it is alone"
        raise RequestError(f"{refused}in a row of two, the second sample {how}{remedy}")


def _leak_and_difference(model: PreTrainedModel) -> tuple[float, float]:
    """What the first sample of a row does to the second's logits, and what packing does to them.

    Returns:
        Largest absolute difference between two first samples, same shapes: 0 where none is seen;
        norm of the difference to the second sample alone, relative to its own.
    """
    device = model.get_input_embeddings().weight.device
    first, other, second = torch.arange(15, device=device).reshape(3, 5)
    positions = torch.arange(5, device=device).repeat(2)[None]
    mask = packed_mask(model, positions)
    behind = [
        model(
            input_ids=torch.cat([before, second])[None],
            position_ids=positions,
            attention_mask=mask,
            use_cache=False,
        ).logits[0, 5:]
        for before in (first, other)
    ]
    alone = model(input_ids=second[None], use_cache=False).logits[0]
    leak = (behind[0] - behind[1]).abs().max().item()
    difference = (behind[0] - alone).float().norm() / alone.float().norm()
    return leak, difference.item()
