"""Training examples of a prepared folder, and how they become a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from arra_med.alignment import Batch
from arra_med.errors import RequestError
from arra_med.model.layout import IGNORED, Example, ImageLayout
from arra_med.model.prompts import encode_prompts
from arra_med.settings import Backbone
from arra_med.store import Cache, PreparedFolder


@dataclass(frozen=True)
class TrainingItem:
    """One example with its teacher's vector.

    Attributes:
        example: token ids, targets and aligned positions.
        teacher: ``(F,)`` float, ``None`` without alignment.
    """

    example: Example
    teacher: np.ndarray | None


class Examples(Dataset[TrainingItem]):
    """Examples of one split of one folder, in the folder's order.

    Codes and teacher vectors stay in the mapped files: forked processes share them.

    Args:
        prepared: the prepared folder.
        split: which split.
        tokens: its codes.
        features: its teacher vectors, ``None`` without alignment.
        tokenizer: of prompts.
        layout: of image tokens.
        backbone: for the limit on prompts.

    Raises:
        RequestError: if the split is empty, a token or feature is missing, or the codes are those
            of pictures of another size.
    """

    def __init__(
        self,
        prepared: PreparedFolder,
        split: str,
        *,
        tokens: Cache,
        features: Cache | None,
        tokenizer: PreTrainedTokenizerBase,
        layout: ImageLayout,
        backbone: Backbone,
    ) -> None:
        rows = prepared.rows(split)
        self.keys = [row["key"] for row in rows]
        self.prompts = encode_prompts(
            tokenizer,
            [row["prompt"] for row in rows],
            self.keys,
            max_tokens=backbone.max_prompt_tokens,
            long_prompts=backbone.long_prompts,
        )
        tokens.require(prepared, self.keys)
        if tokens.width != layout.codes_per_image:
            raise RequestError(
                f"{prepared.folder}: its pictures of {prepared.image_size} pixels have "
                f"{tokens.width} codes each, this run's have {layout.codes_per_image}: ingest it "
                "at the same size"
            )
        if features is not None:
            features.require(prepared, self.keys)
        self.tokens = tokens
        self.features = features
        self.layout = layout
        self.longest_prompt = max(map(len, self.prompts))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> TrainingItem:
        """An example with its prompt."""
        return self.item(index)

    def item(self, index: int, *, dropped: bool = False) -> TrainingItem:
        """An example, its prompt there or ``dropped``."""
        key = self.keys[index]
        teacher = None if self.features is None else self.features[key]
        prompt = [] if dropped else self.prompts[index]
        return TrainingItem(self.layout.example(prompt, self.tokens[key]), teacher)

    def lengths(self) -> np.ndarray:
        """``(N,)`` int64 tokens of each example with its prompt."""
        return np.array([self.layout.sequence_length(len(prompt)) for prompt in self.prompts])

    def caches(self) -> list[Cache]:
        """The folders that examples are read from."""
        return [self.tokens] if self.features is None else [self.tokens, self.features]


def collate(items: Sequence[TrainingItem], pad_id: int, *, share: float | None = None) -> Batch:
    """Pad on the right and stack.

    Args:
        items: the samples.
        pad_id: token that fills the rows.
        share: number of samples the losses are a mean over; by default those given.
    """
    length = max(len(item.example.ids) for item in items)
    ids = torch.full((len(items), length), pad_id)
    for row, item in enumerate(items):
        ids[row, : len(item.example.ids)] = torch.from_numpy(item.example.ids)
    starts = [row * length for row in range(len(items))]
    return Batch(ids=ids, **flat_positions(items, starts, share or len(items)))


def flat_positions(items: Sequence[TrainingItem], starts: Sequence[int], share: float) -> Batch:
    """All of a batch but its ids: where the samples' targets and aligned positions are.

    Args:
        items: the samples.
        starts: flat position of each one's first token.
        share: number of samples the losses are a mean over.
    """
    predict, targets, aligned = [], [], []
    for item, start in zip(items, starts, strict=True):
        (wanted,) = (item.example.targets != IGNORED).nonzero()
        predict.append(wanted + start)
        targets.append(item.example.targets[wanted])
        aligned.append(item.example.aligned.nonzero()[0] + start)
    batch = Batch(
        predict=torch.from_numpy(np.concatenate(predict)),
        targets=torch.from_numpy(np.concatenate(targets)),
        target_weights=_weights(predict, share),
    )
    teachers = [item.teacher for item in items if item.teacher is not None]
    if teachers:
        sample = np.repeat(np.arange(len(items)), [len(positions) for positions in aligned])
        batch["aligned"] = torch.from_numpy(np.concatenate(aligned))
        batch["aligned_weights"] = _weights(aligned, share)
        batch["aligned_sample"] = torch.from_numpy(sample)
        batch["teacher"] = torch.from_numpy(np.stack(teachers).astype(np.float32))
    return batch


def _weights(positions: Sequence[np.ndarray], share: float) -> Tensor:
    """Shares of each sample's positions in a mean over ``share`` samples, ``(N,)`` float32."""
    parts = [np.full(len(own), 1 / (share * len(own)), np.float32) for own in positions]
    return torch.from_numpy(np.concatenate(parts))
