"""The export: a self-contained folder that ``generate`` needs, and nothing else.

``model/`` and ``text_tokenizer`` files are what plain transformers opens; ``image_tokenizer/`` is a
copy of the image tokenizer; ``arra.json`` holds the layout and what the model was trained with.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from arra_med.errors import RequestError
from arra_med.model.backbones import open_model
from arra_med.model.exported import ARRA
from arra_med.model.layout import ImageLayout
from arra_med.store import (
    MANIFEST,
    ByteStream,
    Content,
    PartWriter,
    canonical_json,
    content_hash,
    read_manifest,
)
from arra_med.tokenizers.base import CONFIG, WEIGHTS, ImageTokenizer, load_tokenizer

IMAGE_TOKENIZER = "image_tokenizer"


@dataclass(frozen=True)
class Export:
    """A loaded export.

    Attributes:
        model: the backbone, in evaluation mode.
        text_tokenizer: of its prompts.
        image_tokenizer: codes to pictures.
        layout: of image tokens.
        info: what ``arra.json`` says besides the layout: alignment, teacher, training data …
        content_hash: one hash of every file.
    """

    model: PreTrainedModel
    text_tokenizer: PreTrainedTokenizerBase
    image_tokenizer: ImageTokenizer
    layout: ImageLayout
    info: dict[str, Any]
    content_hash: str


def write_export(
    folder: Path,
    *,
    model: PreTrainedModel,
    state_dict: dict[str, torch.Tensor],
    text_tokenizer: PreTrainedTokenizerBase,
    image_tokenizer: Path,
    layout: ImageLayout,
    info: dict[str, Any],
) -> None:
    """Write an export; its manifest comes last.

    Args:
        folder: where; an unfinished one is completed, a finished one is left alone.
        model: gives configuration and class.
        state_dict: the backbone's weights, gathered.
        text_tokenizer: of the prompts.
        image_tokenizer: folder of the image tokenizer, copied.
        layout: of image tokens.
        info: JSON, kept in ``arra.json``.
    """
    with PartWriter(folder, kind="export", config=info) as writer:
        if not writer.missing(1):
            writer.finish(1)
            return
        scratch = writer.partial / "model"
        shutil.rmtree(scratch, ignore_errors=True)
        model.save_pretrained(scratch, state_dict=state_dict)
        text_tokenizer.save_pretrained(scratch)
        files: dict[str, Content] = {
            path.relative_to(scratch).as_posix(): ByteStream(_pieces(path))
            for path in sorted(scratch.rglob("*"))  # several chat templates lie in a folder
            if path.is_file()
        }
        for name in (CONFIG, WEIGHTS):
            files[f"{IMAGE_TOKENIZER}/{name}"] = (image_tokenizer / name).read_bytes()
        files[ARRA] = canonical_json({"layout": layout.to_json(), **info}).encode()
        writer.write_part(0, files, {})
        writer.finish(1)


def _pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes: weights may be larger than memory."""
    with path.open("rb") as file:
        while piece := file.read(1 << 24):
            yield piece


def load_export(folder: Path, device: torch.device) -> Export:
    """Load an export for generation.

    Raises:
        FileNotFoundError: if it is not there or not finished.
        RequestError: if its parts do not belong together.
    """
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"no exported model at {folder} ({MANIFEST} is missing): run 'arra-med train', or "
            "point paths.export at the export folder of a finished run"
        )
    read_manifest(folder, "export")
    arra = json.loads((folder / ARRA).read_text(encoding="utf-8"))
    layout = ImageLayout.from_json(arra.pop("layout"))
    model, text_tokenizer = open_model(folder)
    image_tokenizer = load_tokenizer(folder / IMAGE_TOKENIZER)
    rows = model.get_output_embeddings().weight.shape[0]
    needed = layout.vocabulary_end
    if rows < needed or image_tokenizer.num_codes != layout.num_codes:
        raise RequestError(
            f"{folder} does not fit together: the layout needs {needed} output rows for "
            f"{layout.num_codes} codes, the model has {rows} and its image tokenizer "
            f"{image_tokenizer.num_codes} codes"
        )
    return Export(
        model=model.to(device).eval(),
        text_tokenizer=text_tokenizer,
        image_tokenizer=image_tokenizer.to(device),
        layout=layout,
        info=arra,
        content_hash=content_hash(folder, "export"),
    )
