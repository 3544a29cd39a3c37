"""Others' text-to-image pipelines as a generator, through the diffusers library.

Any folder with ``model_index.json``: Stable Diffusion fine-tuned on chest films, say. Local files
only, and none of the folder's own code is run.
"""

import copy
import hashlib
import inspect
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch

from arra_med.assets.folder import asset_path
from arra_med.assets.listing import PIPELINE, read_object
from arra_med.errors import RequestError
from arra_med.generation.backend import Backend, Drawn, Request, to_channels
from arra_med.generation.prompts import Prompt
from arra_med.generation.source import hash_folder
from arra_med.model.precision import DTYPES
from arra_med.settings import Generation

logger = logging.getLogger(__name__)

_BATCH = 8  # pictures together on a GPU, if not said
_NEEDED = ("prompt", "num_inference_steps", "guidance_scale", "generator", "output_type")
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
"""Where a pipeline's parts may come from; any other name stands for code in its folder."""


class DiffusersPipeline(Backend):
    """Draws with a pipeline of the diffusers library.

    The noise of a picture comes from a generator of its own, seeded with (seed, key, index). The
    CPU draws one picture at a time, whatever the batch: its kernels choose their order of summation
    by the batch's size, and a picture must not depend on its neighbours.

    Args:
        settings: with ``diffusers``.
        device: where it runs.
        channels: of the pictures, if not 3.

    Raises:
        FileNotFoundError: if there is no pipeline.
        RequestError: if it needs code of its own.
    """

    def __init__(
        self, settings: Generation, device: torch.device, *, channels: int | None = None
    ) -> None:
        assert settings.diffusers is not None
        self.asked = settings
        self.chosen = settings.diffusers
        self.device = device
        given = self.chosen.pipeline
        folder = given if given.is_dir() else asset_path(str(given)) or given
        if not (folder / PIPELINE).is_file():
            raise FileNotFoundError(
                f"no diffusers pipeline at {folder} ({PIPELINE} is missing), nor an asset of that "
                "name"
            )
        self.folder = folder
        index = read_object(folder / PIPELINE)
        _refuse_own_code(index, str(folder / PIPELINE))
        self.model = {
            "name": folder.resolve().name.replace("__", "/"),
            "backend": "diffusers",
            "pipeline": index["_class_name"],
            "content_hash": hash_folder(folder, (".safetensors", ".bin", ".json", ".txt")),
        }
        self.channels = channels or 3
        self.warnings = []

    @cached_property
    def pipeline(self) -> Any:  # noqa: ANN401 - some pipeline class of diffusers
        """The loaded pipeline, with a safety checker if the folder has one.

        Raises:
            RequestError: if it cannot be opened or does not draw from text.
        """
        from diffusers import DiffusionPipeline

        folder = self.folder
        try:
            pipeline = DiffusionPipeline.from_pretrained(
                str(folder),
                local_files_only=True,
                torch_dtype=DTYPES[self.asked.precision or "fp32"],
            )
        except (OSError, ValueError, AttributeError, KeyError) as error:
            raise RequestError(f"diffusers cannot open {folder}: {error}") from error
        takes = inspect.signature(pipeline.__call__).parameters
        if "image" in takes or any(name not in takes for name in _NEEDED):
            raise RequestError(
                f"{folder} holds a {type(pipeline).__name__}, which does not draw pictures from "
                "text alone: name a text-to-image pipeline"
            )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self.device)

    @property
    def long_prompts(self) -> Literal["refuse", "truncate"]:
        """As asked; refused otherwise."""
        return self.asked.long_prompts or "refuse"

    def token_counts(self, prompts: Sequence[Prompt]) -> tuple[list[int], int]:
        """See :class:`Backend`; the pipeline itself cuts what is too long."""
        tokenizer = getattr(self.pipeline, "tokenizer", None)
        if tokenizer is None:
            return [0] * len(prompts), 0
        ids = tokenizer([prompt.text for prompt in prompts], truncation=False).input_ids
        return list(map(len, ids)), int(tokenizer.model_max_length)

    def largest_batch(self, longest: int) -> int:
        """See :class:`Backend`."""
        return 1 if self.device.type == "cpu" else _BATCH

    def start(self, requests: Sequence[Request]) -> Callable[[], Drawn]:
        """See :class:`Backend`."""
        step = 1 if self.device.type == "cpu" else len(requests)
        parts = [self._draw(requests[i : i + step]) for i in range(0, len(requests), step)]
        drawn = Drawn(
            np.concatenate([part.pixels for part in parts]),
            withheld=sum(part.withheld for part in parts),
        )
        return lambda: drawn

    def again(self, settings: Generation) -> Self:
        """See :class:`Backend`."""
        other = copy.copy(self)
        other.asked = settings
        return other

    def settings(self) -> dict[str, Any]:
        """See :class:`Backend`."""
        return {"guidance": self.asked.guidance}

    @torch.inference_mode()
    def _draw(self, requests: Sequence[Request]) -> Drawn:
        size = self.asked.size
        output = self.pipeline(
            prompt=[request.prompt.text for request in requests],
            num_inference_steps=self.chosen.steps,
            guidance_scale=self.asked.guidance,
            generator=[_generator(request) for request in requests],
            output_type="np",
            **({} if size is None else {"height": size[0], "width": size[1]}),
        )
        flagged = getattr(output, "nsfw_content_detected", None) or []
        pixels = torch.from_numpy(np.asarray(output.images)).permute(0, 3, 1, 2)
        pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
        return Drawn(
            to_channels(pixels, self.channels).permute(0, 2, 3, 1).numpy(),
            withheld=sum(map(bool, flagged)),
        )


def _generator(request: Request) -> torch.Generator:
    """Noise that belongs to one picture and to nothing else."""
    text = f"{request.seed}\n{request.prompt.key}\n{request.index}"
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _refuse_own_code(index: dict[str, Any], where: str) -> None:
    """Refuse a pipeline whose classes are not those of the two libraries.

    Raises:
        RequestError: naming the first.
    """
    own = [] if isinstance(index.get("_class_name"), str) else ["_class_name"]
    for name, value in index.items():
        is_part = not name.startswith("_") and isinstance(value, list) and len(value) == 2
        if is_part and value[0] is not None and value[0] not in _LIBRARIES:
            own.append(name)
    if own:
        raise RequestError(
            f"{where}: {own[0]} comes with code of its own, which is not run: only pipelines made "
            "of the diffusers and transformers libraries' classes can be used"
        )
