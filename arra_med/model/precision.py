"""What the settings call precisions, as torch's types."""

import torch
from torch import nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def cast_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast floating-point parameters in place, and no buffer.

    ``Module.to`` casts buffers too, among them the frequencies of rotary positions, which then turn
    by more than a radian from those that ``from_pretrained`` computes at the thousandth token.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
