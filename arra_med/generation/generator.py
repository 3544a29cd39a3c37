"""Drawing from Python, without a configuration or an output folder.

>>> from arra_med.generation.generator import Generator
>>> generator = Generator.from_export("work/run/export")
>>> pictures = generator(["PA view chest x-ray image, left effusion."], num=2, guidance=4)
>>> pictures[0].image.save("first.png")
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from arra_med.config import PluginConfig
from arra_med.generation.backend import Request, check_lengths
from arra_med.generation.generate import open_backend
from arra_med.generation.metadata import described_png
from arra_med.generation.prompts import numbered
from arra_med.settings import Generation, Paths, Settings, Tokenizer
from arra_med.settings.results import Diffusers


@dataclass(frozen=True)
class Picture:
    """One drawn picture.

    Attributes:
        key: of its prompt: ``prompt-00001`` is the first.
        index: which of that prompt's pictures, from 0.
        seed: of the call.
        pixels: ``(H, W, C)`` uint8, C = 1 for grey.
        codes: ``(rows, columns)`` int64 of a model that draws codes, else ``None``.
        png: the bytes of a PNG file that says which model, key, index, seed and settings.
    """

    key: str
    index: int
    seed: int
    pixels: np.ndarray
    codes: np.ndarray | None
    png: bytes

    @property
    def image(self) -> Image.Image:
        """For Pillow."""
        return Image.fromarray(self.pixels[..., 0] if self.pixels.shape[2] == 1 else self.pixels)


class Generator:
    """Draws pictures for prompts; weights are loaded once, at the first call.

    Args:
        settings: ``generation``, ``paths.export``, ``tokenizer``, as a configuration has them.
        device: where to draw; by default CUDA where there is one, else the CPU.
    """

    def __init__(self, settings: Settings, device: torch.device | None = None) -> None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
        self.settings = settings
        self.device = torch.device(name) if device is None else device
        self._backend = open_backend(settings, self.device)

    @classmethod
    def from_export(
        cls,
        folder: str | Path,
        *,
        tokenizer: PluginConfig | None = None,
        device: torch.device | None = None,
        **generation: object,
    ) -> "Generator":
        """Open an export, or a published checkpoint of Chameleon's family.

        Args:
            folder: the export, the checkpoint, or ``owner/name`` of an asset.
            tokenizer: of a published checkpoint; by default Chameleon's in the asset folder.
            device: see the class.
            **generation: settings of the section ``generation`` that hold for every call.

        Raises:
            FileNotFoundError: if there is no model.
            RequestError: if it is something else.
        """
        settings = Settings(
            paths=Paths(output=Path(folder), export=Path(folder)),
            generation=Generation(**generation),  # type: ignore[arg-type]
            tokenizer=None if tokenizer is None else Tokenizer(plugin=tokenizer),
        )
        return cls(settings, device)

    @classmethod
    def from_pipeline(
        cls, folder: str | Path, *, steps: int = 50, device: torch.device | None = None
    ) -> "Generator":
        """Open a text-to-image pipeline of the diffusers library.

        Raises:
            FileNotFoundError: if there is none.
            RequestError: if it needs code of its own.
        """
        path = Path(folder)
        generation = Generation(diffusers=Diffusers(pipeline=path, steps=steps))
        return cls(Settings(paths=Paths(output=path), generation=generation), device)

    @property
    def model(self) -> str:
        """The model's name and the first digits of its hash."""
        return f"{self._backend.model['name']} ({self._backend.hash12})"

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the settings for this model, though it draws."""
        return list(self._backend.warnings)

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        num: int = 1,
        seed: int = 0,
        guidance: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Picture]:
        """Draw ``num`` pictures for each prompt, the first prompt's first.

        The same model, prompts, seed and settings give the same pictures, whatever is drawn beside
        them; a picture's noise depends on seed, its prompt's place and its index.

        Args:
            prompts: texts, or one.
            num: pictures of each.
            seed: 0 or more.
            guidance: in place of the settings'.
            progress: called with (done, all) after every batch.

        Raises:
            RequestError: if a prompt is empty or too long.
            ValueError: if a number is out of range.
        """
        if isinstance(prompts, str):
            prompts = [prompts]
        usual = self.settings.generation
        guidance = usual.guidance if guidance is None else float(guidance)
        chosen = replace(usual, images_per_prompt=num, guidance=guidance)  # checks both
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if chosen.guidance != self._backend.asked.guidance:
            self._backend = self._backend.again(chosen)
        backend = self._backend
        wanted = numbered(prompts, "the prompts")
        lengths, _ = check_lengths(backend, wanted.prompts)
        requests = [Request(p, i, seed) for p in wanted.prompts for i in range(num)]
        size = (
            backend.largest_batch(max(lengths))
            if chosen.batch_size == "auto"
            else chosen.batch_size
        )
        pictures: list[Picture] = []
        for start in range(0, len(requests), size):
            batch = requests[start : start + size]
            drawn = backend.start(batch)()
            for i, request in enumerate(batch):
                pixels = drawn.pixels[i]
                pictures.append(
                    Picture(
                        key=request.prompt.key,
                        index=request.index,
                        seed=seed,
                        pixels=pixels,
                        codes=None if drawn.codes is None else drawn.codes[i],
                        png=described_png(
                            backend, request, pixels, with_prompt=chosen.prompt_in_metadata
                        ),
                    )
                )
            if progress is not None:
                progress(len(pictures), len(requests))
        return pictures
