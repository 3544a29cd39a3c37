"""``phantom-fundus``: drawn fundus photographs with keywords and descriptions.

They are written in DeepEyeNet's layout and read by the real ``deepeyenet`` adapter.
"""

import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from arra_med.datasets.base import DatasetAdapter, Picture, RootOptions
from arra_med.datasets.deepeyenet import DeepEyeNet
from arra_med.datasets.drawing_fundus import draw_fundus
from arra_med.datasets.phantom_fundus_plan import PlannedFundus, plan_fundus
from arra_med.datasets.phantom_sampling import generator
from arra_med.datasets.splits import check_shares
from arra_med.errors import RequestError
from arra_med.schema import Exclusion, Sample, Split
from arra_med.store import PartWriter

logger = logging.getLogger(__name__)

KIND = "phantom-fundus"
DRAWING_VERSION = 1
"""Goes up whenever the same options draw other bytes; a folder of another version is refused."""

_PICTURES_PER_PART = 16
_FILE: dict[Split, str] = {
    "train": "DeepEyeNet_train.json",
    "validate": "DeepEyeNet_valid.json",
    "test": "DeepEyeNet_test.json",
}


@dataclass(frozen=True, kw_only=True)
class PhantomFundusOptions(RootOptions):
    """What to draw, and how to read it.

    Attributes:
        root: folder that the collection is drawn into, unless it is already there.
        num_samples: pictures; a patient has one or two.
        seed: equal options draw equal bytes.
        size: side of the photographs in pixels.
        split_shares: of train, validate and test; patients stay together.
        prompt: which text becomes the prompt, see ``deepeyenet``.
    """

    num_samples: int = 600
    seed: int = 0
    size: int = 320
    split_shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    prompt: Literal["description", "keywords", "both"] = "description"

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.seed < 0 or not 16 <= self.size <= 4096:
            raise RequestError(
                "expected num_samples ≥ 1, seed ≥ 0 and size from 16 to 4096, got "
                f"num_samples={self.num_samples}, seed={self.seed}, size={self.size}"
            )
        check_shares(self.split_shares)


class PhantomFundus(DatasetAdapter):
    """Draws the collection if it is not there yet, then reads it as DeepEyeNet.

    Raises:
        RequestError: if the folder holds something else, or a collection of other options.
    """

    Options = PhantomFundusOptions
    channels = 3

    def __init__(self, options: PhantomFundusOptions) -> None:
        draw_collection(options)
        self._deepeyenet = DeepEyeNet(
            DeepEyeNet.Options(root=options.root, prompt=options.prompt, min_keyword_count=1)
        )
        self.label_names = self._deepeyenet.label_names

    def items(self) -> Iterator[Sample | Exclusion]:
        """Every picture, in the JSON files' order."""
        return self._deepeyenet.items()

    def read(self, sample: Sample) -> Picture:
        """Decode a photograph."""
        return self._deepeyenet.read(sample)


def draw_collection(options: PhantomFundusOptions) -> None:
    """Draw what is missing of a collection; an interrupted run resumes and gives equal bytes."""
    config = {k: v for k, v in asdict(options).items() if k not in ("root", "prompt")}
    config |= {"drawing_version": DRAWING_VERSION}
    with PartWriter(options.root, kind=KIND, config=config) as writer:
        if writer.finished:
            return
        pictures = plan_fundus(options.num_samples, seed=options.seed, shares=options.split_shares)
        parts = [
            pictures[start : start + _PICTURES_PER_PART]
            for start in range(0, len(pictures), _PICTURES_PER_PART)
        ]
        logger.info("drawing %d fundus phantoms", options.num_samples)
        for index in tqdm(writer.missing(len(parts)), desc="draw fundus phantoms", disable=None):
            files = {
                picture.path: jpeg_bytes(picture, seed=options.seed, size=options.size)
                for picture in parts[index]
            }
            writer.write_part(index, files, {"samples": len(files)})
        writer.finish(len(parts), {_FILE[split]: _json(pictures, split) for split in _FILE})


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
