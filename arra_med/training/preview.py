"""A grid of pictures drawn while the model trains: real above, generated below."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from arra_med.generation.decoder import CodeDecoder
from arra_med.generation.sampling import Sampling, sample_uniforms
from arra_med.images import contact_sheet, decode_png
from arra_med.model.layout import ImageLayout
from arra_med.store import PreparedFolder
from arra_med.tokenizers.base import ImageTokenizer

_TOP_K = 100
_GUIDANCE = 2.0


def preview_grid(
    model: PreTrainedModel,
    layout: ImageLayout,
    image_tokenizer: ImageTokenizer,
    prepared: PreparedFolder,
    keys: Sequence[str],
    prompts: Sequence[Sequence[int]],
    *,
    guided: bool,
    seed: int,
) -> np.ndarray:
    """Draw one picture for each prompt and put it below the real one.

    Every rank calls this with the same arguments, so that sharded weights can be gathered.

    Returns:
        ``(H, W, C)`` uint8.
    """
    uniforms = np.stack([sample_uniforms(seed, key, 0, layout.codes_per_image) for key in keys])
    sampling = Sampling(guidance=_GUIDANCE if guided else 1.0, top_k=_TOP_K)
    # Recorded graphs would keep memory that training needs.
    codes = CodeDecoder(model, layout, sampling, graphs=False)(prompts, torch.from_numpy(uniforms))
    drawn = image_tokenizer.decode(codes).permute(0, 2, 3, 1).cpu().numpy()
    real = prepared.images(keys)
    pairs = [
        np.concatenate([decode_png(real[key]), picture])
        for key, picture in zip(keys, drawn, strict=True)
    ]
    return contact_sheet(pairs, columns=len(pairs))
