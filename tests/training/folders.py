"""Prepared folders with codes and teacher vectors made up, for tests of what reads them."""

from pathlib import Path

import numpy as np

from arra_med.model.layout import ImageLayout
from arra_med.settings import Backbone, Llama
from arra_med.store import Cache, PartWriter, PreparedFolder, vector_table
from arra_med.training.data import Examples
from arra_med.training.mixture import TrainingFolder
from tests.conftest import write_prepared

LAYOUT = ImageLayout(
    start_ids=(20,), end_ids=(21,), code_ids=tuple(range(22, 32)), grid=(2, 2), pad_id=0
)
DIMENSION = 5


class WordTokenizer:
    """A token for each word: its length, so that ids stay below the layout's."""

    eos_token_id = None

    def __call__(self, texts: list[str]) -> "WordTokenizer":
        self.input_ids = [[min(len(word), 19) for word in text.split()] for text in texts]
        return self


def _write(folder: Path, kind: str, column: str, prepared: PreparedFolder, vectors) -> Cache:
    config = {"prepared": prepared.content_hash}
    with PartWriter(folder, kind=kind, config=config) as writer:
        table = vector_table(prepared.keys, vectors, column)
        writer.write_part(0, {"part-00000.arrow": table}, {"samples": len(prepared.keys)})
        writer.finish(1)
    return Cache(folder, kind=kind, column=column)


def save_caches(prepared: PreparedFolder, *, grid_codes: int = 4, num_codes: int = 10):
    """Random codes and vectors beside ``prepared``."""
    rng = np.random.default_rng(len(prepared.keys))
    count = len(prepared.keys)
    codes = rng.integers(0, num_codes, (count, grid_codes)).astype(np.uint16)
    vectors = rng.normal(size=(count, DIMENSION)).astype(np.float32)
    return TrainingFolder(
        prepared=prepared,
        tokens=_write(prepared.folder / "tokens" / "t", "tokens", "codes", prepared, codes),
        features=_write(
            prepared.folder / "features" / "f", "features", "vector", prepared, vectors
        ),
    )


def examples_of(folder: TrainingFolder, *, layout: ImageLayout = LAYOUT) -> Examples:
    """Training examples of a folder."""
    return Examples(
        folder.prepared,
        "train",
        tokens=folder.tokens,
        features=folder.features,
        tokenizer=WordTokenizer(),
        layout=layout,
        backbone=Backbone(llama=Llama()),
    )


def make_examples(folder: Path, *sizes: int) -> list[Examples]:
    """Training examples of new folders of so many samples each (of which 6 in 10 train)."""
    return [
        examples_of(save_caches(write_prepared(folder / f"prepared{i}", num=size, size=8)))
        for i, size in enumerate(sizes)
    ]
