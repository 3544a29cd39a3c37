"""How image codes are drawn: guidance over the course of a picture, noise, and the draw itself.

Shapes: B pictures, K image codes, N codes of a picture.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from arra_med.settings import checks


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How codes are drawn from the model's logits.

    Attributes:
        guidance: g in ``u + g·(c - u)``; 1 runs the conditional branch alone.
        guidance_schedule: how g runs over a picture's codes. ``constant``: g throughout.
            ``linear`` and ``cosine``: from 1 at the first code to g at the last, in a straight line
            or as half a cosine wave (slow, fast, slow).
        temperature: divides the logits; 0 picks the likeliest code.
        top_k: only the k likeliest codes can be drawn; 0 for all. Codes exactly as likely as the
            k-th are kept with it.
        top_p: only the fewest likeliest codes whose probabilities reach p together, after top-k;
            1 for all. Codes exactly as likely as the last of them are kept with it.
    """

    guidance: float = 4.0
    guidance_schedule: Literal["constant", "linear", "cosine"] = "constant"
    temperature: float = 1.0
    top_k: int = 2000
    top_p: float = 1.0

    def __post_init__(self) -> None:
        checks.sampling(self)
        if self.guidance_schedule not in ("constant", "linear", "cosine"):
            raise ValueError(
                "guidance_schedule must be constant, linear or cosine, got "
                f"{self.guidance_schedule!r}"
            )

    @property
    def guided(self) -> bool:
        """Whether the unconditional branch has to run."""
        return self.guidance != 1

    def scales(self, count: int) -> Tensor:
        """g of each of a picture's ``count`` codes, ``(count,)`` float32."""
        done = torch.linspace(0, 1, count, dtype=torch.float64)
        if self.guidance_schedule == "constant":
            done = torch.ones_like(done)
        elif self.guidance_schedule == "cosine":
            done = (1 - (torch.pi * done).cos()) / 2
        return (1 + (self.guidance - 1) * done).float()


def sample_uniforms(seed: int, key: str, index: int, count: int) -> np.ndarray:
    """``(count,)`` float64 uniforms in [0, 1) that belong to one picture and to nothing else.

    A counter-based generator (Philox) keyed by a hash of seed, key and index.
    """
    digest = hashlib.sha256(f"{seed}\n{key}\n{index}".encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    return np.random.Generator(bits).random(count)


def choose_codes(logits_BK: Tensor, uniforms_B: Tensor, sampling: Sampling) -> Tensor:
    """One code a picture by inverting its cumulative distribution, in the order of the codes.

    Nothing here waits for the device, so that a CUDA graph can hold it.

    Args:
        logits_BK: over the K image codes, guided.
        uniforms_B: float64 in [0, 1).
        sampling: temperature, top-k and top-p.

    Returns:
        ``(B,)`` int64 codes.
    """
    if sampling.temperature == 0:
        return logits_BK.argmax(dim=-1)
    if 0 < sampling.top_k < logits_BK.shape[-1]:
        least = logits_BK.topk(sampling.top_k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        logits_BK = logits_BK.masked_fill(logits_BK < least, -torch.inf)
    weights = (logits_BK.double() / sampling.temperature).softmax(dim=-1)
    if sampling.top_p < 1:
        ranked = weights.sort(dim=-1, descending=True).values
        before = ranked.cumsum(dim=-1) - ranked
        least = ranked.masked_fill(before >= sampling.top_p, torch.inf).amin(-1, keepdim=True)
        weights = weights.masked_fill(weights < least, 0)
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1:]
    below = torch.nextafter(total, torch.zeros_like(total))  # a rounded product stays inside
    threshold = torch.minimum(uniforms_B[:, None] * total, below)
    # The first code whose cumulative weight exceeds the threshold; excluded ones add nothing.
    return (cumulative <= threshold).sum(dim=-1).clamp(max=logits_BK.shape[-1] - 1)
