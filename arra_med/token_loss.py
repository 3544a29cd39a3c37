"""Cross-entropy and z-loss over chosen positions, the logits made and used chunk by chunk.

A vocabulary of 65,536 makes the logits of one 512² image 270 MB in float32: they are computed a
chunk of positions at a time and, where there are several chunks, computed again for the gradient.

Shapes: N positions with a target, V vocabulary, D hidden size.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK_ELEMENTS = 2**28
"""Logits that exist at once: 1 GiB in float32."""


def losses_of_logits(
    logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted sums of cross-entropy (nats) and of squared logsumexp.

    Args:
        logits_NV: of any floating type; the sums are float32.
        targets_N: int64 token ids.
        weights_N: float32.

    Returns:
        Two scalars.
    """
    logits = logits_NV.float()
    logsumexp_N = logits.logsumexp(dim=-1)
    of_target_N = logits.gather(-1, targets_N[:, None])[:, 0]
    cross_entropy = ((logsumexp_N - of_target_N) * weights_N).sum()
    return cross_entropy, (logsumexp_N.square() * weights_N).sum()


LossOfLogits = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def chunked_losses(
    head: nn.Module,
    hidden_ND: Tensor,
    targets_N: Tensor,
    weights_N: Tensor,
    *,
    vocabulary: int,
    losses: LossOfLogits = losses_of_logits,
    chunk_elements: int = CHUNK_ELEMENTS,
    agreed: Callable[[int], int] = int,
) -> tuple[Tensor, Tensor]:
    """:func:`losses_of_logits` of ``head(hidden_ND)`` without all logits at once.

    Args:
        head: ``(n, D)`` to logits ``(n, V)``.
        hidden_ND: hidden states at the positions with a target.
        targets_N: int64 token ids.
        weights_N: float32.
        vocabulary: V.
        losses: :func:`losses_of_logits`, compiled or not.
        chunk_elements: logits that may exist at once.
        agreed: the number of chunks that is used where so many are needed, not fewer. Ranks that
            gather the head's weights for every chunk have to take equally many.

    Returns:
        Two float32 scalars.
    """

    def of_chunk(hidden: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        return losses(head(hidden), targets, weights)

    count = len(targets_N)
    num_chunks = agreed(max(1, -(-count * vocabulary // chunk_elements)))
    if num_chunks == 1:
        return of_chunk(hidden_ND, targets_N, weights_N)
    size = -(-count // num_chunks)
    sums = []
    for start in range(0, num_chunks * size, size):  # the last ones may be empty
        chunk = (tensor[start : start + size] for tensor in (hidden_ND, targets_N, weights_N))
        sums.append(checkpoint(of_chunk, *chunk, use_reentrant=False))
    cross_entropy, z = (torch.stack(parts).sum() for parts in zip(*sums, strict=True))
    return cross_entropy, z
