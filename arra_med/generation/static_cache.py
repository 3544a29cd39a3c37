"""A key/value cache of fixed size for transformers' models: written by slot, read up to a length.

transformers' own ``StaticCache`` hands attention the whole padded length at every token. Here a
decode step reads ``[:, :, :length]`` of buffers that never move, with the length chosen by the
caller, so that a CUDA graph a length reads little more than there is.

Sequences are aligned on the right: all of them end at the same slot.

Shapes: S sequences (rows), H key/value heads, C slots (capacity), D head size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, StaticCache
from transformers.cache_utils import CacheLayerMixin


@dataclass
class Window:
    """Where the next forward pass writes, and what it reads; shared by all layers.

    Attributes:
        rows: sequences the buffers hold.
        capacity: slots of each.
        targets: while sequences are read in, ``(n,)`` rows that they go to.
        sources: ``(n,)`` places in the batch they come from.
        end: slot behind their last token.
        slots: while decoding, ``(t,)`` slots of the new tokens.
        length: while decoding, slots that attention reads.
    """

    rows: int
    capacity: int
    targets: Tensor | None = None
    sources: Tensor | None = None
    end: int = 0
    slots: Tensor | None = None
    length: int = 0


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys ``(S, H, C, D)`` and values."""

    is_sliding = False

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the buffers, in the model's own precision."""
        rows, capacity = self.window.rows, self.window.capacity
        self.keys, self.values = (
            states.new_zeros(rows, states.shape[1], capacity, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Write the new tokens and return what attention is to read."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window = self.window
        if window.targets is None or window.sources is None:
            assert window.slots is not None
            self.keys.index_copy_(2, window.slots, key_states)
            self.values.index_copy_(2, window.slots, value_states)
            return self.keys[:, :, : window.length], self.values[:, :, : window.length]
        begin = window.end - key_states.shape[2]
        for buffer, states in ((self.keys, key_states), (self.values, value_states)):
            part = buffer[:, :, begin : window.end]
            part.index_copy_(0, window.targets, states.index_select(0, window.sources))
        return key_states, value_states

    def get_seq_length(self) -> int:
        """Tokens read so far, as far as a caller needs to know: it passes positions itself."""
        return 0 if self.window.targets is not None else self.window.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys a mask is made for: only while sequences are read in."""
        return query_length, 0

    def get_max_length(self) -> int:
        """Slots."""
        return self.window.capacity

    def get_max_cache_shape(self) -> int:
        """The same by the name that older transformers have for it."""
        return self.window.capacity


class SlotCache(Cache):  # type: ignore[misc]
    """The cache of a whole model.

    Args:
        num_layers: of the model's that keep keys and values.
        rows: S.
        capacity: C.
    """

    def __init__(self, num_layers: int, rows: int, capacity: int) -> None:
        self.window = Window(rows, capacity)
        super().__init__(layers=[SlotLayer(self.window) for _ in range(num_layers)])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *_args: Any,  # noqa: ANN401 - transformers'
        **_kwargs: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        """One layer's :meth:`SlotLayer.update`, outside compiled code: its window changes."""
        layer: SlotLayer = self.layers[layer_idx]
        return layer.update(key_states, value_states)

    def read_in(self, targets: Tensor, sources: Tensor, end: int) -> None:
        """The next forward pass reads sequences from their start: see :class:`Window`."""
        self.window.targets, self.window.sources, self.window.end = targets, sources, end

    def decode(self, slots: Tensor, length: int) -> None:
        """The next forward pass adds tokens to every row: see :class:`Window`."""
        self.window.targets = self.window.sources = None
        self.window.slots, self.window.length = slots, length


def static_layers(model: PreTrainedModel, length: int) -> int | None:
    """Number of the model's cache layers if a :class:`SlotCache` can serve sequences of ``length``.

    ``None`` if it cannot: the model does not take ready-made masks, attends within a window that is
    shorter, keeps states other than keys and values, has positions that depend on a sequence's
    length, or its weights are spread over processes.
    """
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in rope.values() if isinstance(value, dict)]
    kinds = {part.get("rope_type", "default") for part in (rope, *nested)}
    if (
        not getattr(model, "_can_compile_fullgraph", False)
        or getattr(config, "is_encoder_decoder", False)
        or getattr(config, "alibi", False)
        or config.model_type == "bloom"  # its position biases are made from a (S, L) mask
        or config._attn_implementation not in ("sdpa", "eager")
        or kinds & {"dynamic", "longrope"}
        or any(hasattr(parameter, "ds_id") for parameter in model.parameters())
    ):
        return None
    layers = StaticCache(config=model.config, max_cache_len=length).layers
    for layer in layers:
        if type(layer).__name__ not in ("StaticLayer", "StaticSlidingWindowLayer"):
            return None
        if layer.max_cache_len < length:
            return None
    return len(layers)
