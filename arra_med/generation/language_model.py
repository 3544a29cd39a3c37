"""Our own models as a generator: prompt to codes, codes to pixels."""

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch

from arra_med.errors import RequestError
from arra_med.generation.backend import Backend, Drawn, Request, to_channels
from arra_med.generation.decoder import LARGEST_BATCH, CodeDecoder
from arra_med.generation.prompts import Prompt
from arra_med.generation.sampling import Sampling, sample_uniforms
from arra_med.generation.source import Source, require_decoder
from arra_med.model.backbones import context_length
from arra_med.model.export import Export
from arra_med.model.layout import ImageLayout
from arra_med.model.prompts import encode_prompts
from arra_med.settings import Generation
from arra_med.tokenizers.base import ImageTokenizer, chunks, load_tokenizer, tokenizer_id

COMPILE_FROM = 256
"""Pictures from which on compiling, half a minute, pays."""

_SAME_CODEBOOK = 0.01
"""Relative difference of codebooks that precision makes (bf16)."""


class LanguageModel(Backend):
    """Draws with an export, or with a published checkpoint that looks like one.

    Args:
        source: the model.
        settings: guidance, sampling, size …
        device: where it runs.
        channels: of the pictures, if not the model's own.

    Raises:
        FileNotFoundError: if the image tokenizer that the settings name is not there.
    """

    def __init__(
        self,
        source: Source,
        settings: Generation,
        device: torch.device,
        *,
        channels: int | None = None,
    ) -> None:
        self.source = source
        self.asked = settings
        self.device = device
        self.model = source.info | {"content_hash": source.content_hash}
        if settings.image_tokenizer is not None:
            self.model["decoded_with"] = tokenizer_id(settings.image_tokenizer)
        self.channels = channels or int(source.info["channels"])
        self.compiled = bool(settings.compile)
        self.warnings = _warnings(source, settings)

    @cached_property
    def export(self) -> Export:
        """The loaded model, with the image tokenizer that decodes.

        Raises:
            RequestError: if it cannot decode.
        """
        export = self.source.load(self.device)
        given = self.asked.image_tokenizer
        if given is not None:
            decoder = load_tokenizer(given)
            if other := _difference(decoder, export.image_tokenizer):
                raise RequestError(
                    f"generation.image_tokenizer {given} has {other} than the one that the model "
                    "was trained with: name a folder with the same codebook"
                )
            export = replace(export, image_tokenizer=decoder.to(self.device))
        require_decoder(export.image_tokenizer)
        return export

    @cached_property
    def layout(self) -> ImageLayout:
        """Of pictures of the size asked for."""
        return sized_layout(self.export, self.asked.size)

    @cached_property
    def most_tokens(self) -> int:
        """Tokens of the longest prompt that model and layout have room for."""
        most = int(self.export.info["max_prompt_tokens"])
        context = context_length(self.export.model)
        if context is None:
            return most
        room = context - self.layout.sequence_length(1) + 1
        if room < 1:
            raise RequestError(
                f"pictures of {self.layout.grid[0]} × {self.layout.grid[1]} codes leave no room "
                f"for a prompt in the model's context of {context} tokens: set a smaller "
                "generation.size"
            )
        return min(most, room)

    @property
    def long_prompts(self) -> Literal["refuse", "truncate"]:
        """As asked, or as in training."""
        trained: Literal["refuse", "truncate"] = self.source.info["long_prompts"]
        return self.asked.long_prompts or trained

    def token_counts(self, prompts: Sequence[Prompt]) -> tuple[list[int], int]:
        """See :class:`Backend`."""
        return list(map(len, self._encode(prompts))), self.most_tokens

    def expect(self, num_pictures: int) -> None:
        """See :class:`Backend`."""
        if self.asked.compile is None:
            self.compiled = num_pictures >= COMPILE_FROM

    def largest_batch(self, longest: int) -> int:
        """See :class:`Backend`."""
        return self._decoder.largest_batch(longest, reserve=self._decoding_bytes())

    def start(self, requests: Sequence[Request]) -> Callable[[], Drawn]:
        """Draw codes and begin to decode them; see :class:`Backend`.

        On a GPU the image tokenizer works on a stream of its own, beside the codes of the next
        batch; only :meth:`fetch` waits for it.
        """
        prompts = [ids[: self.most_tokens] for ids in self._encode([r.prompt for r in requests])]
        count = self.layout.codes_per_image
        uniforms = np.stack(
            [sample_uniforms(r.seed, r.prompt.key, r.index, count) for r in requests]
        )
        codes = self._decoder(prompts, torch.from_numpy(uniforms))
        if codes.device.type != "cuda":
            drawn = Drawn(self._decode(codes).numpy(), codes.numpy())
            return lambda: drawn
        side = self._side
        side.wait_stream(torch.cuda.current_stream(side.device))
        with torch.cuda.stream(side):
            codes.record_stream(side)
            pixels = self._decode(codes).to("cpu", non_blocking=True)
            on_cpu = codes.to("cpu", non_blocking=True)
            ready = side.record_event()

        def fetch() -> Drawn:
            ready.synchronize()
            return Drawn(pixels.numpy(), on_cpu.numpy())

        return fetch

    def again(self, settings: Generation) -> Self:
        """See :class:`Backend`."""
        other = copy.copy(self)
        other.__dict__.pop("_decoder", None)
        other.asked, other.warnings = settings, _warnings(self.source, settings)
        return other

    def settings(self) -> dict[str, Any]:
        """See :class:`Backend`."""
        names = ("guidance", "guidance_schedule", "temperature", "top_k", "top_p")
        return {name: getattr(self.asked, name) for name in names}

    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        """``(B, rows, columns)`` int64 codes to ``(B, H, W, C)`` uint8 on the same device."""
        pixels = to_channels(self.export.image_tokenizer.decode(codes), self.channels)
        return pixels.permute(0, 2, 3, 1).contiguous()

    def _decoding_bytes(self) -> int:
        """What decoding takes beside the next batch's codes: measured on a GPU; none elsewhere."""
        if self.device.type != "cuda":
            return 0
        grid, patch = self.layout.grid, self.export.image_tokenizer.patch
        codes = torch.zeros((LARGEST_BATCH, *grid), dtype=torch.int64, device=self.device)
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self._decode(chunks(codes, (grid[0] * patch, grid[1] * patch))[0])
        return torch.cuda.max_memory_allocated(self.device) - before

    def _encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return encode_prompts(
            self.export.text_tokenizer,
            [prompt.text for prompt in prompts],
            [prompt.key for prompt in prompts],
            max_tokens=sys.maxsize,  # too long ones are told apart, and counted, by check_lengths
            long_prompts="refuse",
        )

    @cached_property
    def _decoder(self) -> CodeDecoder:
        sampling = Sampling(**self.settings())
        return CodeDecoder(self.export.model, self.layout, sampling, compiled=self.compiled)

    @cached_property
    def _side(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]


def _difference(decoder: ImageTokenizer, trained: ImageTokenizer) -> str | None:
    """How one image tokenizer reads codes otherwise than another, in words."""
    if decoder.num_codes != trained.num_codes:
        return f"another number of codes ({decoder.num_codes}, not {trained.num_codes})"
    if decoder.patch != trained.patch:
        return f"codes of another size ({decoder.patch} px, not {trained.patch} px)"
    ours, theirs = decoder.codebook, trained.codebook
    if ours is None or theirs is None:
        return None
    ours, theirs = ours.detach().float().cpu(), theirs.detach().float().cpu()
    if ours.shape != theirs.shape or (ours - theirs).norm() > _SAME_CODEBOOK * theirs.norm():
        return "another codebook"
    return None


def sized_layout(export: Export, size: tuple[int, int] | None) -> ImageLayout:
    """The export's layout, for pictures of ``size`` (height, width) pixels if one is asked for.

    Raises:
        RequestError: if the size is no whole number of codes, or the model has no tokens for it.
    """
    if size is None:
        return export.layout
    patch = export.image_tokenizer.patch
    if size[0] % patch or size[1] % patch:
        raise RequestError(f"generation.size {size}: expected multiples of {patch} px, one code")
    return export.layout.with_grid(size[0] // patch, size[1] // patch)


def _warnings(source: Source, settings: Generation) -> list[str]:
    if settings.guidance == 1 or source.info.get("prompt_dropout") != 0:
        return []
    return [
        f"guidance is {settings.guidance:g} but the model never saw a dropped prompt: "
        "train with training.prompt_dropout, or set generation.guidance to 1"
    ]
