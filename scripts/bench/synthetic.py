"""Random training samples in real cache files, so that the real loader can be timed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from arra_med.model.layout import ImageLayout
from arra_med.settings import Backbone, Llama, Training
from arra_med.store import Cache, PartWriter, vector_table
from arra_med.training.data import Examples
from arra_med.training.loader import TrainingSet

SAMPLES = 2048


class _Prompts:
    """A text tokenizer whose prompts all have ``length`` tokens."""

    eos_token_id = None

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, texts: list[str]) -> Any:  # noqa: ANN401
        return SimpleNamespace(input_ids=[[3 + i % 80 for i in range(self.length)] for _ in texts])


@contextmanager
def training_set(
    layout: ImageLayout, training: Training, *, prompt: int, teacher: int
) -> Iterator[TrainingSet]:
    """A training set of :data:`SAMPLES` samples while the block runs.

    Args:
        layout: of image tokens.
        training: of batches.
        prompt: tokens of every prompt.
        teacher: length of the teacher's vectors.
    """
    rng = np.random.default_rng(0)
    keys = [f"sample-{i:06d}" for i in range(SAMPLES)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared: Any = SimpleNamespace(
            folder=folder, content_hash="synthetic", image_size=0,
            rows=lambda split: [{"key": key, "prompt": "a"} for key in keys],
        )  # fmt: skip
        codes = rng.integers(0, layout.num_codes, (SAMPLES, layout.codes_per_image))
        examples = Examples(
            prepared,
            "train",
            tokens=_cache(folder, "tokens", "codes", keys, codes.astype(np.uint16)),
            features=_cache(
                folder, "features", "vector", keys,
                rng.normal(size=(SAMPLES, teacher)).astype(np.float32),
            ),
            tokenizer=_Prompts(prompt),  # type: ignore[arg-type]
            layout=layout,
            backbone=Backbone(llama=Llama()),
        )  # fmt: skip
        yield TrainingSet([examples], [1.0], training, seed=0)


def _cache(folder: Path, kind: str, column: str, keys: list[str], vectors: np.ndarray) -> Cache:
    with PartWriter(folder / kind, kind=kind, config={"prepared": "synthetic"}) as writer:
        table = vector_table(keys, vectors, column)
        writer.write_part(0, {"part-00000.arrow": table}, {"samples": len(keys)})
        writer.finish(1)
    return Cache(folder / kind, kind=kind, column=column)
