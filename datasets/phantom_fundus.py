"""``phantom-fundus``: drawn fundus photographs with keywords and descriptions.

They are written in DeepEyeNet's layout and read by the real ``deepeyenet`` adapter.
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from PIL import Image

from arra_med.datasets.base import DatasetAdapter, Picture
from arra_med.datasets.deepeyenet import DeepEyeNet
from arra_med.datasets.phantom.collection import PhantomOptions, draw_collection
from arra_med.datasets.phantom.fundus import draw_fundus
from arra_med.datasets.phantom.fundus_plan import PlannedFundus, plan_fundus
from arra_med.datasets.phantom.sampling import generator
from arra_med.schema import Exclusion, Sample, Split

KIND = "phantom-fundus"
DRAWING_VERSION = 1
"""Goes up whenever the same options draw other bytes; a folder of another version is refused."""

_FILE: dict[Split, str] = {
    "train": "DeepEyeNet_train.json",
    "validate": "DeepEyeNet_valid.json",
    "test": "DeepEyeNet_test.json",
}


@dataclass(frozen=True, kw_only=True)
class PhantomFundusOptions(PhantomOptions):
    """What to draw, and how to read it.

    Attributes:
        prompt: which text becomes the prompt, see ``deepeyenet``.
    """

    prompt: Literal["description", "keywords", "both"] = "description"


class PhantomFundus(DatasetAdapter):
    """Draws the collection if it is not there yet, then reads it as DeepEyeNet.

    Raises:
        RequestError: if the folder holds something else, or a collection of other options.
    """

    Options = PhantomFundusOptions
    channels = 3

    def __init__(self, options: PhantomFundusOptions) -> None:
        draw_photographs(options)
        self._deepeyenet = DeepEyeNet(
            DeepEyeNet.Options(root=options.root, prompt=options.prompt, min_keyword_count=1)
        )
        self.label_names = self._deepeyenet.label_names

    def num_items(self) -> int:
        """Pictures of the collection."""
        return self._deepeyenet.num_items()

    def items(self) -> Iterator[Sample | Exclusion]:
        """Every picture, in the JSON files' order."""
        return self._deepeyenet.items()

    def complete(self, sample: Sample, redact: Callable[[str], str]) -> Sample:
        """Make the prompt from the picture's texts."""
        return self._deepeyenet.complete(sample, redact)

    def read(self, sample: Sample) -> Picture:
        """Decode a photograph."""
        return self._deepeyenet.read(sample)


def draw_photographs(options: PhantomFundusOptions) -> None:
    """Draw what is missing of the photographs and JSON files below ``options.root``."""
    draw_collection(
        options,
        kind=KIND,
        drawing_version=DRAWING_VERSION,
        plan=lambda: plan_fundus(
            options.num_samples, seed=options.seed, shares=options.split_shares
        ),
        draw=partial(picture_files, seed=options.seed, size=options.size),
        tables=lambda pictures: {_FILE[split]: _json(pictures, split) for split in _FILE},
    )


def picture_files(picture: PlannedFundus, *, seed: int, size: int) -> dict[str, bytes]:
    """A photograph's file by its path below the collection's root."""
    return {picture.path: jpeg_bytes(picture, seed=seed, size=size)}


def jpeg_bytes(picture: PlannedFundus, *, seed: int, size: int) -> bytes:
    """Draw a photograph and pack it as a JPEG file."""
    drawn = draw_fundus(picture.spec, size, generator(seed, "fundus-picture", picture.index))
    buffer = io.BytesIO()
    Image.fromarray(np.rint(drawn * 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _json(pictures: Sequence[PlannedFundus], split: Split) -> bytes:
    entries = [
        {
            picture.path: {
                "keywords": picture.keywords,
                "clinical-description": picture.description,
            }
        }
        for picture in pictures
        if picture.split == split
    ]
    return (json.dumps(entries, indent=1) + "\n").encode()
