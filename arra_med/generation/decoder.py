"""Draw image codes from a language model: batched, guided, and only codes where codes belong.

With guidance g the logits of a code are ``u + g·(c - u)``, where the unconditional branch u sees
the image-start tokens alone; both branches run in one batch. Each picture brings its own random
numbers, so that it does not depend on its neighbours.

Two ways lead there. Models that take a static cache run over fixed buffers (``Session``), on CUDA
as recorded graphs, without the host waiting for a token. Any other causal language model runs
through its own growing cache.

On the CPU the batch a picture is in does not change its codes, not even by rounding: see
:data:`CPU_PICTURES`.
"""

import logging
from collections.abc import Sequence

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor
from transformers import PreTrainedModel

from arra_med.errors import RequestError
from arra_med.generation.compiled import CompiledBlocks
from arra_med.generation.image_head import ImageHead
from arra_med.generation.sampling import Sampling, choose_codes
from arra_med.generation.session import Session, check_finite, guided, left_padded
from arra_med.generation.static_cache import static_layers
from arra_med.model.backbones import context_length
from arra_med.model.cache import CACHE, check_states, kept, step_mask
from arra_med.model.layout import ImageLayout
from arra_med.parallel import torch_threads

logger = logging.getLogger(__name__)

CPU_PICTURES = 16
"""Pictures a group on the CPU, always: a short group is filled up.

A matrix product's rounding depends on its shape (one row, three rows and forty take different
kernels), so every picture is computed in the same shapes whatever was asked for together: prompts
are read one by one, and groups, all of this size, hold prompts whose lengths round up to the same
multiple of :data:`CPU_SLOTS`. That a picture's place within the group does not matter either is
checked when a group is set up; where it does, it is checked with one thread (several may share a
product's rows out unevenly), and if it still does, groups are of one picture.
"""

CPU_SLOTS = 32
"""On the CPU a prompt takes a multiple of this many slots of the cache."""

CUDA_SLOTS = 128
"""On CUDA attention reads a multiple of this many slots: one graph for each."""

LARGEST_BATCH = 256
"""Beyond this, reading the cache outweighs reading the weights by far and little is gained."""


class CodeDecoder:
    """Draws the codes of pictures from prompts.

    Args:
        model: the backbone, in evaluation mode, with the weights it is to draw with.
        layout: of its image tokens.
        sampling: how codes are drawn.
        graphs: record CUDA graphs on a CUDA device; without, steps run one kernel at a time and
            nothing but the cache stays allocated.
        compiled: compile the blocks for decode steps over a static cache. It takes half a minute
            and pays from some hundred pictures on; on CUDA alone.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layout: ImageLayout,
        sampling: Sampling,
        *,
        graphs: bool = True,
        compiled: bool = False,
    ) -> None:
        self.model, self.layout, self.sampling = model, layout, sampling
        self.device = next(model.parameters()).device
        self.graphs = graphs and self.device.type == "cuda"
        self.compiled = CompiledBlocks(model) if compiled and self.device.type == "cuda" else None
        check_states(model)
        token_of_code = torch.from_numpy(layout.token_of_code).to(self.device)
        probe = torch.tensor([layout.start_ids], device=self.device)
        self.head = ImageHead(model, token_of_code, probe)
        self._session: Session | None = None
        self._groups: dict[int, tuple[int, int]] = {}  # on the CPU: pictures, threads by capacity

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Sequence[int]], uniforms_BN: Tensor) -> Tensor:
        """Draw one picture for each prompt.

        Args:
            prompts: token ids of each prompt, without the image start.
            uniforms_BN: ``(B, rows · columns)`` float64, see
                :func:`arra_med.generation.sampling.sample_uniforms`.

        Returns:
            ``(B, rows, columns)`` int64 codes on the model's device.

        Raises:
            RequestError: if a prompt and its picture do not fit into the model's context.
            WorkError: if the model's logits are not finite.
        """
        expected = (len(prompts), self.layout.codes_per_image)
        assert uniforms_BN.shape == expected, f"uniforms of {uniforms_BN.shape}, not {expected}"
        codes = torch.zeros(expected, dtype=torch.int64, device=self.device)
        if prompts:
            sequences = [self.layout.prompt(prompt) for prompt in prompts]
            self._check_fit(max(map(len, prompts)))
            uniforms_BN = uniforms_BN.to(self.device)
            for part in self._parts(sequences):
                where = torch.tensor(part, device=self.device)
                codes[where] = self._draw([sequences[i] for i in part], uniforms_BN[where])
        return codes.reshape(-1, *self.layout.grid)

    def largest_batch(self, longest_prompt: int, *, reserve: int = 0) -> int:
        """Pictures that fit into free memory together, both branches of guidance counted.

        To be asked before the first batch is drawn, whose buffers take memory themselves.

        Args:
            longest_prompt: its tokens, without the image start.
            reserve: bytes that something else will take beside.

        Returns:
            1 to :data:`LARGEST_BATCH`.
        """
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0]
            free += torch.cuda.memory_reserved(self.device)
            free -= torch.cuda.memory_allocated(self.device)
        else:
            free = psutil.virtual_memory().available
        length = self.layout.sequence_length(longest_prompt)
        capacity = _up(length, CUDA_SLOTS)
        growing = 1 if static_layers(self.model, capacity) is not None else 2  # old and new copies
        branches = 2 if self.sampling.guided else 1
        config = self.model.config.get_text_config()
        width = next(self.model.parameters()).element_size()
        inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        prompt = len(self.layout.prompt([0] * longest_prompt))
        token, states = self._cache_bytes()
        a_picture = branches * (growing * capacity * token + states)
        a_picture += prompt * (12 * config.hidden_size + 3 * inner) * width  # of one layer
        a_picture += 8 * 8 * self.layout.num_codes  # float64 weights of the draw
        return int(min(max((0.9 * free - reserve) // a_picture, 1), LARGEST_BATCH))

    @torch.no_grad()
    def _cache_bytes(self) -> tuple[int, int]:
        """Bytes of a token's keys and values, and of a sequence's states, from the model's own."""
        start = torch.tensor([self.layout.start_ids], device=self.device)
        cache = getattr(self.model(input_ids=start, use_cache=True, logits_to_keep=1), CACHE)
        total = {True: 0, False: 0}
        for grows, tensor in kept(cache):
            total[grows] += tensor.numel() * tensor.element_size()
        return total[True] // start.shape[1], total[False]

    def _check_fit(self, longest_prompt: int) -> None:
        room = context_length(self.model)
        needed = self.layout.sequence_length(longest_prompt)
        if room is not None and needed > room:
            raise RequestError(
                f"a prompt of {longest_prompt} tokens and its picture take {needed} tokens, the "
                f"model has room for {room}: shorten the prompt or draw smaller pictures"
            )

    def _parts(self, sequences: list[list[int]]) -> list[list[int]]:
        """Which pictures are drawn together."""
        if self.device.type != "cpu":
            return [list(range(len(sequences)))]
        if self._static_layers(sequences) is None:
            return [[i] for i in range(len(sequences))]
        groups: dict[int, list[int]] = {}
        for i, sequence in enumerate(sequences):
            groups.setdefault(_up(len(sequence), CPU_SLOTS), []).append(i)
        return [
            group[start : start + CPU_PICTURES]
            for group in groups.values()
            for start in range(0, len(group), CPU_PICTURES)
        ]

    def _static_layers(self, sequences: list[list[int]]) -> int | None:
        return static_layers(self.model, self._capacity(sequences))

    def _filled(self, sequences: list[list[int]]) -> int:
        """Slots that hold prompts before the first code."""
        longest = max(map(len, sequences))
        return _up(longest, CPU_SLOTS) if self.device.type == "cpu" else longest

    def _capacity(self, sequences: list[list[int]]) -> int:
        slots = CPU_SLOTS if self.device.type == "cpu" else CUDA_SLOTS
        return _up(self._filled(sequences) + self.layout.image_length, slots)

    def _draw(self, sequences: list[list[int]], uniforms_BN: Tensor) -> Tensor:
        num_layers = self._static_layers(sequences)
        if num_layers is None:
            return self._draw_growing(sequences, uniforms_BN)
        if self.device.type == "cpu":
            return self._draw_group(sequences, uniforms_BN, num_layers)
        session = self._ready(len(sequences), self._capacity(sequences), num_layers)
        return session.draw(sequences, uniforms_BN, filled=self._filled(sequences), together=True)

    def _draw_group(
        self, sequences: list[list[int]], uniforms_BN: Tensor, num_layers: int
    ) -> Tensor:
        """On the CPU: see :data:`CPU_PICTURES`."""
        filled, capacity = self._filled(sequences), self._capacity(sequences)
        if capacity not in self._groups:
            session = self._ready(CPU_PICTURES, capacity, num_layers)
            self._groups[capacity] = _group(session, sequences[0], filled)
        size, threads = self._groups[capacity]
        session = self._ready(size, capacity, num_layers)
        drawn = []
        for start in range(0, len(sequences), size):
            part = list(range(start, min(start + size, len(sequences))))
            padded = part + part[:1] * (size - len(part))
            chosen = [sequences[i] for i in padded]
            with torch_threads(threads):
                codes = session.draw(chosen, uniforms_BN[padded], filled=filled, together=False)
            drawn.append(codes[: len(part)])
        return torch.cat(drawn)

    def _ready(self, pictures: int, capacity: int, num_layers: int) -> Session:
        """The session of the last batch if it fits this one, or a new one in its place."""
        session = self._session
        cpu = self.device.type == "cpu"
        if (
            session is not None
            and session.pictures == pictures
            and (session.capacity == capacity if cpu else session.capacity >= capacity)
        ):
            return session
        if session is not None:
            capacity = capacity if cpu else max(capacity, session.capacity)
            del session
            self._session = None  # its memory is needed for the next one
        self._session = Session(
            self.model, self.layout, self.sampling, self.head, num_layers=num_layers,
            pictures=pictures, capacity=capacity, bucket=1 if cpu else CUDA_SLOTS,
            graphs=self.graphs, compiled=self.compiled,
        )  # fmt: skip
        return self._session

    def _draw_growing(self, sequences: list[list[int]], uniforms_BN: Tensor) -> Tensor:
        """Through ``model.forward`` and the model's own cache; for any causal language model."""
        layout, count = self.layout, len(sequences)
        branches = 2 if self.sampling.guided else 1
        if branches == 2:
            sequences = sequences + [list(layout.start_ids)] * count
        ids, attention = (t.to(self.device) for t in left_padded(sequences, layout.pad_id))
        positions = (attention.cumsum(dim=-1) - 1).clamp(min=0)
        row_end = torch.tensor(layout.row_end_ids, dtype=torch.int64, device=self.device)
        scales = self.sampling.scales(layout.codes_per_image).to(self.device)
        codes: list[Tensor] = []
        cache = None
        broken = torch.zeros((), dtype=torch.bool, device=self.device)
        with self.head.fitted():
            for step in range(layout.codes_per_image):
                output = self.model(
                    input_ids=ids, attention_mask=step_mask(cache, attention),
                    position_ids=positions, use_cache=True, logits_to_keep=1, **{CACHE: cache},
                )  # fmt: skip
                cache = getattr(output, CACHE)
                logits = guided(self.head.codes(output.logits), scales[step], branches)
                broken |= ~logits.isfinite().all()
                codes.append(choose_codes(logits, uniforms_BN[:, step], self.sampling))
                ids = self.head.token_of_code[codes[-1]].repeat(branches)[:, None]
                if (step + 1) % layout.grid[1] == 0:  # a full row is closed with its last code
                    ids = torch.cat([ids, row_end.expand(len(sequences), -1)], dim=1)
                new = ids.shape[1]
                attention = torch.cat([attention, attention.new_ones(len(ids), new)], dim=1)
                positions = positions[:, -1:] + torch.arange(1, new + 1, device=self.device)
        check_finite(self.model, broken)
        return torch.stack(codes, dim=1)


def _group(session: Session, sequence: list[int], filled: int) -> tuple[int, int]:
    """Pictures a group, and threads, with which a picture's place does not matter."""
    usual = torch.get_num_threads()
    for threads in (usual, 1):
        with torch_threads(threads):
            if session.slots_agree(sequence, filled):
                return session.pictures, threads
    return 1, usual


def _up(length: int, unit: int) -> int:
    return -(-length // unit) * unit
