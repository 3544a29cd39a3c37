"""What an export has that can be trained on, its image tokens, and a run that has no export yet."""

from dataclasses import replace
from pathlib import Path

from arra_med.assets.listing import read_object
from arra_med.errors import RequestError
from arra_med.model.layout import ImageLayout

ARRA = "arra.json"
"""In an export: the layout, and what the model was trained with."""


def unended_run(folder: Path) -> str | None:
    """What to tell of a run folder that has checkpoints, ``None`` of any other folder."""
    if not any((folder / "checkpoints").glob("*")):
        return None
    return (
        f"{folder} is the folder of a run that did not end: 'arra-med train' goes on with it, "
        "'arra-med export' makes a model of a checkpoint"
    )


def exported_layout(
    folder: Path, *, grid: tuple[int, int], image_tokenizer: str, with_rep: bool
) -> ImageLayout | None:
    """The layout of a general language model that was trained to draw here before.

    Args:
        folder: of the model.
        grid: of codes, that of the pictures to come.
        image_tokenizer: identity of the image tokenizer to come.
        with_rep: whether a ``<REP>`` token is needed.

    Returns:
        ``None`` if the folder is not an export.

    Raises:
        RequestError: if its image tokens mean something else than what is to be trained.
    """
    if not (folder / ARRA).is_file():
        return None
    arra = read_object(folder / ARRA)
    layout = ImageLayout.from_json(arra["layout"])
    if arra.get("image_tokenizer") != image_tokenizer:
        raise RequestError(
            f"backbone.pretrained {folder} draws with image tokenizer "
            f"{arra.get('image_tokenizer')}, the codes here are {image_tokenizer}'s: point "
            f"paths.tokenizer at {folder / 'image_tokenizer'} and tokenize with it, or start from "
            "the model it was trained from"
        )
    if with_rep != (layout.rep_id is not None):
        raise RequestError(
            f"backbone.pretrained {folder} was trained {'with' if layout.rep_id else 'without'} a "
            "<REP> token: use the same alignment.span, or start from the model it was trained from"
        )
    return replace(layout, grid=grid)
