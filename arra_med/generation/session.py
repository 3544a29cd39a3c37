"""One batch of pictures being drawn over a static cache, with CUDA graphs where there are any.

Shapes: B pictures, S sequences (B conditional, then B unconditional ones where guidance asks for
them), K image codes, N codes of a picture, t new tokens of a step, L slots that attention reads.
"""

import logging
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arra_med.errors import WorkError
from arra_med.generation.compiled import CompiledBlocks
from arra_med.generation.image_head import ImageHead
from arra_med.generation.sampling import Sampling, choose_codes
from arra_med.generation.static_cache import SlotCache
from arra_med.model.cache import CACHE
from arra_med.model.layout import ImageLayout

logger = logging.getLogger(__name__)


class Session:
    """Buffers for ``pictures`` at a time; every step reads and writes them in place.

    A step depends on nothing the host knows but its number of tokens and the slots it reads, so
    that one CUDA graph of each such pair serves all pictures.

    Args:
        model: in evaluation mode.
        layout: of its image tokens.
        sampling: how codes are drawn.
        head: of the model.
        num_layers: of the cache.
        pictures: B, fixed.
        capacity: slots of the cache.
        bucket: attention reads a multiple of this many slots.
        graphs: record CUDA graphs; needs a CUDA device.
        compiled: the model's blocks for decode steps; by default as they are.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layout: ImageLayout,
        sampling: Sampling,
        head: ImageHead,
        *,
        num_layers: int,
        pictures: int,
        capacity: int,
        bucket: int,
        graphs: bool,
        compiled: CompiledBlocks | None = None,
    ) -> None:
        self.model, self.layout, self.sampling, self.head = model, layout, sampling, head
        self.pictures, self.capacity, self.bucket = pictures, capacity, bucket
        self.compiled = compiled
        self.branches = 2 if sampling.guided else 1
        weight = next(model.parameters())
        device, self.dtype = weight.device, weight.dtype
        rows, count = pictures * self.branches, layout.codes_per_image
        self.cache = SlotCache(num_layers, rows, capacity)
        self.places = torch.arange(capacity, device=device)
        self.scales = sampling.scales(count).to(device)
        self.starts = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self.positions = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.turn = torch.zeros(1, dtype=torch.int64, device=device)
        self.uniforms = torch.zeros(pictures, count, dtype=torch.float64, device=device)
        self.codes = torch.zeros(pictures, count, dtype=torch.int64, device=device)
        self.broken = torch.zeros((), dtype=torch.bool, device=device)
        new = torch.tensor([0, *layout.row_end_ids], device=device)
        self.new_ids = new.repeat(rows, 1)
        self.graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] | None = {} if graphs else None
        if graphs:
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.pool = torch.cuda.graph_pool_handle()

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        uniforms_BN: Tensor,
        *,
        filled: int,
        together: bool,
    ) -> Tensor:
        """Codes of one picture for each of B prompts.

        Args:
            prompts: token ids, image start included.
            uniforms_BN: float64 in [0, 1).
            filled: slot at which every sequence ends before its first code.
            together: read all sequences in one forward pass, padded; else each by itself.

        Returns:
            ``(B, N)`` int64.

        Raises:
            WorkError: if the model's logits are not finite.
        """
        self.uniforms.copy_(uniforms_BN)
        self.slot.fill_(filled)
        self.turn.zero_()
        self.broken.zero_()
        with self.head.fitted():
            self._choose(self._read_in(prompts, filled, together=together))
            columns, count = self.layout.grid[1], self.layout.codes_per_image
            with self.compiled.used() if self.compiled else nullcontext():
                for done in range(1, count):
                    # A full row is closed together with its last code.
                    new = self.new_ids.shape[1] if done % columns == 0 else 1
                    filled += new
                    self._advance(new, min(-(-filled // self.bucket) * self.bucket, self.capacity))
        check_finite(self.model, self.broken)
        return self.codes.clone()

    def slots_agree(self, sequence: Sequence[int], filled: int) -> bool:
        """Whether a sequence's logits are the same, bit for bit, in every row of the batch."""
        self.slot.fill_(filled)
        with self.head.fitted():
            self._read_in([sequence] * self.pictures, filled, together=False, same=True)
            for new in {1, self.new_ids.shape[1]}:
                self.new_ids[:, 0] = sequence[0]
                filled += new
                logits = self.head.codes(self._forward(new, filled))
                if not torch.equal(logits, logits[:1].expand_as(logits)):
                    return False
        return True

    def _read_in(
        self,
        prompts: Sequence[Sequence[int]],
        filled: int,
        *,
        together: bool,
        same: bool = False,
    ) -> Tensor:
        """Fill the cache; returns ``(S, K)`` logits. The unconditional branch is read once."""
        sequences = [list(prompt) for prompt in prompts]
        rows = [[row] for row in range(self.pictures)]
        if self.branches == 2:
            sequences.append(list(prompts[0] if same else self.layout.start_ids))
            rows.append([self.pictures + row for row in range(self.pictures)])
        parts = [list(range(len(sequences)))] if together else [[i] for i in range(len(sequences))]
        device = self.slot.device
        logits: Tensor | None = None
        for part in parts:
            ids, attention = left_padded([sequences[i] for i in part], self.layout.pad_id)
            ids, attention = ids.to(device), attention.to(device)
            targets = torch.tensor([row for i in part for row in rows[i]], device=device)
            sources = torch.tensor(
                [place for place, i in enumerate(part) for _ in rows[i]], device=device
            )
            self.cache.read_in(targets, sources, filled)
            output = self.model(
                input_ids=ids,
                attention_mask=attention,
                position_ids=(attention.cumsum(dim=-1) - 1).clamp(min=0),
                use_cache=True,
                logits_to_keep=1,
                **{CACHE: self.cache},
            ).logits
            last = self.head.codes(output)
            if logits is None:
                logits = last.new_empty(len(self.starts), last.shape[-1])
            logits.index_copy_(0, targets, last.index_select(0, sources))
            lengths = attention.sum(dim=-1, keepdim=True).index_select(0, sources)
            self.starts.index_copy_(0, targets, filled - lengths)
            self.positions.index_copy_(0, targets, lengths)
        assert logits is not None
        return logits

    def _advance(self, new: int, length: int) -> None:
        """One step, by its graph if it is recorded.

        The first step of a kind runs as it is, on a side stream as recording asks for (libraries
        set themselves up in it); recording runs nothing, and later steps replay it.
        """
        if self.graphs is None:
            self._step(new, length)
            return
        graph = self.graphs.get((new, length))
        if graph is not None:
            graph.replay()
            return
        current = torch.cuda.current_stream(self.slot.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            self._step(new, length)
        current.wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: other threads may use the device meanwhile, to decode pictures say.
            with torch.cuda.graph(
                graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
            ):
                self._step(new, length)
        except RuntimeError as error:
            logger.warning(
                "%s cannot be recorded as a CUDA graph and draws slower without: %s",
                type(self.model).__name__, str(error).partition("\n")[0],
            )  # fmt: skip
            self.graphs = None
            return
        self.graphs[new, length] = graph

    def _step(self, new: int, length: int) -> None:
        """Add the last tokens to the cache and draw the next code. Never waits for the device."""
        self._choose(self.head.codes(self._forward(new, length)))

    def _forward(self, new: int, length: int) -> Tensor:
        steps = self.places[:new]
        slots = self.slot + steps
        self.cache.decode(slots, length)
        logits: Tensor = self.model(
            input_ids=self.new_ids[:, :new],
            attention_mask=self._mask(slots, length),
            position_ids=self.positions + steps,
            use_cache=True,
            logits_to_keep=1,
            **{CACHE: self.cache},
        ).logits
        self.slot += new
        self.positions += new
        return logits

    def _mask(self, slots: Tensor, length: int) -> Tensor:
        """``(S, 1, t, L)``, added to scores: 0 where a new token sees a slot."""
        places = self.places[:length]
        seen = (places >= self.starts[:, :, None]) & (places <= slots[:, None])
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        return mask.masked_fill_(~seen, torch.finfo(self.dtype).min)[:, None]

    def _choose(self, logits_SK: Tensor) -> None:
        """Draw a code of each picture and make it the next token of its sequences."""
        self.broken |= ~logits_SK.isfinite().all()
        logits = guided(logits_SK, self.scales.index_select(0, self.turn), self.branches)
        noise = self.uniforms.index_select(1, self.turn)[:, 0]
        chosen = choose_codes(logits, noise, self.sampling)
        self.codes.index_copy_(1, self.turn, chosen[:, None])
        token = self.head.token_of_code.index_select(0, chosen)
        self.new_ids[:, 0] = token.repeat(self.branches)
        self.turn += 1


def guided(logits_SK: Tensor, scale: Tensor, branches: int) -> Tensor:
    """``u + g·(c - u)`` of the two halves of a batch, ``(B, K)``; one branch passes as it is."""
    if branches == 1:
        return logits_SK
    conditional, unconditional = logits_SK.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def left_padded(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids ``(S, t)`` with padding on the left, and a mask that is 0 there."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id)
    attention = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, longest - len(sequence) :] = torch.tensor(sequence)
        attention[row, longest - len(sequence) :] = 1
    return ids, attention


def check_finite(model: PreTrainedModel, broken: Tensor) -> None:
    """Wait for the device and refuse what was drawn if any logit was not finite.

    Raises:
        WorkError: if ``broken`` is true.
    """
    if broken.item():
        raise WorkError(
            f"{type(model).__name__} gave logits that are not finite: its weights are damaged, or "
            f"their precision, {model.dtype}, is too coarse for it"
        )
