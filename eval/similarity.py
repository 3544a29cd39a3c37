"""Likeness two ways that must not be confused: *paired* and *diversity*.

Paired compares a generated picture with the real one of the same prompt; more alike is better.
Diversity compares pictures of one set with each other, across prompts or of one prompt; the value
to reach is the real set's, and pictures all alike mean one picture over and over. Both are given as
MS-SSIM (in [0, 1], 1 is equal) and as distances of features (in [0, 2], 0 is equal): the two run
in opposite directions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from arra_med.eval.inference import to_tensor
from arra_med.eval.neighbours import Vectors, pair_distances
from arra_med.ms_ssim import ms_ssim


def paired(
    generated: Sequence[bytes], real: Sequence[bytes], *, batch_size: int, device: torch.device
) -> NDArray[np.float64]:
    """MS-SSIM of each generated picture with its own real one; higher is closer to it.

    Args:
        generated: N PNG pictures.
        real: N PNG pictures of the same size, that of the same prompt at the same place.
        batch_size: pairs at once.
        device: where to run.

    Returns:
        ``(N,)`` values in [0, 1]; 1 is the same picture.

    Raises:
        ValueError: if the lists are empty or not equally long.
    """
    if not generated or len(generated) != len(real):
        raise ValueError(
            f"expected one real picture for each generated one, got {len(real)} and "
            f"{len(generated)}"
        )
    values = []
    for start in range(0, len(generated), batch_size):
        rows = slice(start, start + batch_size)
        x, y = to_tensor(generated[rows]).to(device), to_tensor(real[rows]).to(device)
        values.append(ms_ssim(x, y).cpu().double().numpy())
    return np.concatenate(values)


def diversity(
    pictures: Sequence[bytes],
    pairs: NDArray[np.int64],
    *,
    batch_size: int,
    device: torch.device,
) -> NDArray[np.float64]:
    """MS-SSIM of pairs within one set; lower is more varied, the real set's value is the goal.

    Args:
        pictures: N PNG pictures of one size.
        pairs: ``(P, 2)`` indices into them, see :func:`random_pairs`, :func:`same_prompt_pairs`.
        batch_size: pairs at once.
        device: where to run.

    Returns:
        ``(P,)`` values in [0, 1]; 1 is the same picture.

    Raises:
        ValueError: if there is no pair, or a picture is paired with itself.
    """
    _check_pairs(pairs)
    first = [pictures[i] for i in pairs[:, 0]]
    second = [pictures[i] for i in pairs[:, 1]]
    return paired(first, second, batch_size=batch_size, device=device)


def paired_feature_distance(generated: Vectors, real: Vectors) -> NDArray[np.float64]:
    """Distance of each generated picture's features from its own real one's; lower is closer.

    Args:
        generated: ``(N, D)`` features.
        real: ``(N, D)`` features of the real pictures of the same prompts.

    Returns:
        ``(N,)`` distances of vectors scaled to length 1, in [0, 2]: √(2 - 2 cos).

    Raises:
        ValueError: if shapes differ, or a vector is not finite or of length 0.
    """
    if generated.shape != real.shape:
        raise ValueError(
            f"expected one real vector for each generated one, got {real.shape} and "
            f"{generated.shape}"
        )
    rows = np.arange(len(generated))
    both = np.concatenate([generated, real])
    return pair_distances(both, np.stack([rows, rows + len(rows)], axis=1), metric="cosine")


def feature_diversity(features: Vectors, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Feature distance of pairs within one set; higher is more varied, the real set's is the goal.

    Args:
        features: ``(N, D)`` of one set's pictures.
        pairs: ``(P, 2)`` indices into them, see :func:`random_pairs`, :func:`same_prompt_pairs`.

    Returns:
        ``(P,)`` distances of vectors scaled to length 1, in [0, 2]: √(2 - 2 cos).

    Raises:
        ValueError: if there is no pair, a picture is paired with itself, or a vector is not
            finite or of length 0.
    """
    _check_pairs(pairs)
    return pair_distances(features, pairs, metric="cosine")


def _check_pairs(pairs: NDArray[np.int64]) -> None:
    if not len(pairs) or (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError("expected pairs of different pictures, got none or a picture with itself")


def same_prompt_pairs(
    prompts: Sequence[str], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Up to ``count`` distinct pairs of pictures drawn from one prompt.

    Pairs are dealt in rounds of one a prompt, so that with a ``count`` of some pairs a prompt no
    prompt with many pictures outweighs the others; a prompt with one picture has none.

    Args:
        prompts: what identifies the prompt of each picture.
        count: the most pairs.
        generator: draws.

    Returns:
        ``(P, 2)`` indices, the first smaller than the second; none without a repeated prompt.
    """
    _, group = np.unique(np.asarray(prompts), return_inverse=True)
    order = np.argsort(group, kind="stable")
    dealt: list[tuple[int, float, int, int]] = []  # round, place within it, the two pictures
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        first, second = np.triu_indices(len(members), k=1)
        for turn, pair in enumerate(generator.permutation(len(first))):
            i, j = int(members[first[pair]]), int(members[second[pair]])
            dealt.append((turn, generator.random(), i, j))
    chosen = sorted(pair[2:] for pair in sorted(dealt)[:count])
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def random_pairs(
    groups: Sequence[str], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Up to ``count`` distinct pairs of pictures of different groups (patients).

    Returns:
        ``(P, 2)`` indices, the first smaller than the second; all pairs when there are no more
        than ``count``, and none when all pictures are of one group.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    n = len(group)
    if n * (n - 1) // 2 <= 4 * count:
        first, second = np.triu_indices(n, k=1)
    else:
        drawn = np.sort(generator.integers(0, n, size=(4 * count, 2)), axis=1)
        drawn = np.unique(drawn, axis=0)
        first, second = drawn[:, 0], drawn[:, 1]
        few = (group[first] != group[second]).sum() < count  # one patient has most
        if few and (others := other_patients(groups, generator)) is not None:
            more = np.sort(np.stack([np.arange(n), others], axis=1), axis=1)
            first, second = np.unique(np.concatenate([drawn, more]), axis=0).T
    apart = np.flatnonzero(group[first] != group[second])
    chosen = np.sort(generator.permutation(apart)[:count])
    return np.stack([first[chosen], second[chosen]], axis=1)


def other_patients(
    groups: Sequence[str], generator: np.random.Generator
) -> NDArray[np.int64] | None:
    """For each picture, the index of one of another group (patient), drawn at random.

    Returns:
        ``(N,)`` indices, or ``None`` when all pictures are of one group.
    """
    _, group, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return None
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])[group]
    size = counts[group]
    draws = generator.integers(0, len(group) - size)  # a place among those of other groups
    return np.asarray(order[np.where(draws < starts, draws, draws + size)])
