"""Draw image codes from a language model: batched, guided, and only codes where codes belong.

Prompts of different lengths are padded on the left. With guidance g the logits of a step are
``u + g·(c - u)``, where the unconditional branch u sees the image-start tokens alone; both
branches run in one batch. Each sample brings its own random numbers, so that it does not depend
on its neighbours.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arra_med.model.layout import ImageLayout


def sample_uniforms(seed: int, key: str, index: int, count: int) -> np.ndarray:
    """``(count,)`` float64 uniforms in [0, 1) that belong to one picture and to nothing else.

    A counter-based generator (Philox) keyed by a hash of seed, key and index.
    """
    digest = hashlib.sha256(f"{seed}\n{key}\n{index}".encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    return np.random.Generator(bits).random(count)


def choose_codes(
    logits_BK: Tensor, uniforms_B: Tensor, *, temperature: float, top_k: int
) -> Tensor:
    """One code a sample by inverting its cumulative distribution.

    Args:
        logits_BK: over the K image codes.
        uniforms_B: float64 in [0, 1).
        temperature: 0 picks the likeliest code.
        top_k: only the k likeliest can be drawn; 0 for all.

    Returns:
        ``(B,)`` int64 codes.
    """
    if temperature == 0:
        return logits_BK.argmax(dim=-1)
    if 0 < top_k < logits_BK.shape[-1]:
        values, codes = logits_BK.topk(top_k, dim=-1)
    else:
        values, codes = logits_BK, None
    cumulative = (values.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    threshold = (uniforms_B * cumulative[:, -1])[:, None]
    chosen = torch.searchsorted(cumulative, threshold, right=True)
    chosen = chosen.clamp(max=cumulative.shape[-1] - 1)
    return (chosen if codes is None else codes.gather(-1, chosen))[:, 0]


@torch.no_grad()
def draw_codes(
    model: PreTrainedModel,
    layout: ImageLayout,
    prompts: Sequence[Sequence[int]],
    uniforms_BN: Tensor,
    *,
    guidance: float,
    temperature: float,
    top_k: int,
) -> Tensor:
    """Draw one picture's codes for each prompt.

    Args:
        model: the backbone.
        layout: of its image tokens.
        prompts: token ids of each prompt, without the image start.
        uniforms_BN: ``(B, rows · columns)`` float64, see :func:`sample_uniforms`.
        guidance: g; 1 runs the conditional branch alone.
        temperature: see :func:`choose_codes`.
        top_k: see :func:`choose_codes`.

    Returns:
        ``(B, rows, columns)`` int64 codes.
    """
    device = next(model.parameters()).device
    sequences = [layout.prompt(prompt) for prompt in prompts]
    if guidance != 1:
        sequences += [list(layout.start_ids)] * len(prompts)
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), layout.pad_id)
    attention = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, longest - len(sequence) :] = torch.tensor(sequence)
        attention[row, longest - len(sequence) :] = 1
    ids, attention, uniforms_BN = ids.to(device), attention.to(device), uniforms_BN.to(device)
    positions = (attention.cumsum(dim=-1) - 1).clamp(min=0)
    token_of_code = torch.from_numpy(layout.token_of_code).to(device)
    row_end = torch.tensor(layout.row_end_ids, dtype=torch.int64, device=device)

    codes: list[Tensor] = []
    cache = None
    for step in range(layout.codes_per_image):
        output = model(
            input_ids=ids,
            attention_mask=attention,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        logits = output.logits[:, -1, token_of_code].float()
        if guidance != 1:
            conditional, unconditional = logits.chunk(2)
            logits = unconditional + guidance * (conditional - unconditional)
        chosen = choose_codes(logits, uniforms_BN[:, step], temperature=temperature, top_k=top_k)
        codes.append(chosen)
        ids = token_of_code[chosen].repeat(len(sequences) // len(prompts))[:, None]
        if (step + 1) % layout.grid[1] == 0:  # a full row is closed together with its last code
            ids = torch.cat([ids, row_end.expand(len(sequences), -1)], dim=1)
        new = ids.shape[1]
        attention = torch.cat([attention, attention.new_ones(len(sequences), new)], dim=1)
        positions = positions[:, -1:] + torch.arange(1, new + 1, device=device)
    return torch.stack(codes, dim=1).reshape(-1, *layout.grid)
