"""The decoder's blocks compiled for decode steps: element-by-element work is fused.

A block of a 7 B model launches some forty kernels a token, of which eight are matrix products; the
others take as long as reading the weights of two layers. Attention and the cache stay as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from arra_med.model.backbones import decoder_blocks

_SHAPES = 64


class CompiledBlocks:
    """Compiled forwards of a model's decoder blocks, one code for all of them.

    Args:
        model: in evaluation mode.
        backend: of ``torch.compile``.
    """

    def __init__(self, model: PreTrainedModel, *, backend: str = "inductor") -> None:
        config = model.config.get_text_config()
        self.blocks = decoder_blocks(model, config.num_hidden_layers)
        self.forwards: list[Any] = [
            torch.compile(block.forward, backend=backend) for block in self.blocks
        ]

    @contextmanager
    def used(self) -> Iterator[None]:
        """While this lasts the blocks run compiled."""
        # A block knows its number, which only the cache reads: without the first, each would be
        # compiled anew. The second is per piece of code, over all batch sizes of the process.
        with torch._dynamo.config.patch(
            allow_unspec_int_on_nn_module=True, recompile_limit=_SHAPES
        ):
            for block, forward in zip(self.blocks, self.forwards, strict=True):
                block.forward = forward
            try:
                yield
            finally:
                for block in self.blocks:
                    del block.forward
