"""Networks of random weights and drawn films, so that extraction can be timed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import densenet121, vit_b_16

from arra_med.datasets.phantom.chest import draw_chest
from arra_med.datasets.phantom.cxr_plan import plan_studies
from arra_med.eval.cnn import CnnNetwork
from arra_med.eval.evaluator import as_uint8
from arra_med.images import encode_png
from arra_med.schema import CHEXPERT_LABELS, Sample, images_schema, sample_row, samples_schema
from arra_med.store import PartWriter, PreparedFolder

INPUT = 224
FILMS, PART = 4, 64  # drawn (the others are shifted), pictures a part


class Cnn(nn.Module):
    """The small extractor that is fitted on the prepared folder; it resizes by itself."""

    transform = staticmethod(as_uint8)

    def __init__(self) -> None:
        super().__init__()
        self.network = CnnNetwork(channels=1, input_size=64, dimension=32, num_findings=14)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1, H, W)`` uint8 to ``(B, 32)``."""
        features: Tensor = self.network.features(self.network.prepare(images))
        return features


def _to_input(picture: Image.Image) -> Tensor:
    small = picture.resize((INPUT, INPUT), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small, dtype=np.float32))[None]


class DenseNet(nn.Module):
    """DenseNet121 at 224 px, the size of the published chest classifiers."""

    transform = staticmethod(_to_input)

    def __init__(self) -> None:
        super().__init__()
        self.network = densenet121().features

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1, 224, 224)`` float32 to ``(B, 1024)``."""
        maps = self.network((images / 127.5 - 1).expand(-1, 3, -1, -1))
        return torch.relu(maps).mean(dim=(2, 3))


class VisionTransformer(nn.Module):
    """ViT-B/16 at the pictures' own size, the work of RAD-DINO's (ViT-B/14 at 518 px) on 512 px."""

    transform = staticmethod(as_uint8)

    def __init__(self) -> None:
        super().__init__()
        self.network = vit_b_16(image_size=512)
        self.network.heads = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1, 512, 512)`` uint8 to ``(B, 768)``."""
        features: Tensor = self.network((images / 127.5 - 1).expand(-1, 3, -1, -1))
        return features


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cnn": Cnn,
    "densenet121": DenseNet,
    "vit-b-512": VisionTransformer,
}


def save_films(folder: Path, number: int, size: int) -> PreparedFolder:
    """A prepared folder of ``number`` films, a few drawn and shifted again and again."""
    studies, rng = plan_studies(100, seed=0, shares=(0.8, 0.1, 0.1)), np.random.default_rng(0)
    films = [
        np.rint(255 * draw_chest(replace(s.spec, view=s.pictures[0].view), size, rng))
        for s in studies[:FILMS]
    ]
    pngs = [
        encode_png(np.roll(films[i % FILMS].astype(np.uint8), rng.integers(-32, 32, 2), (0, 1)))
        for i in range(PART)
    ]
    keys = [f"p{i}" for i in range(number)]
    config = {"dataset": {"name": "bench"}, "size": size, "part_size": PART}
    with PartWriter(folder, kind="prepared", config=config) as writer:
        for part, start in enumerate(range(0, number, PART)):
            own = keys[start : start + PART]
            pictures = [{"bytes": png, "path": None} for png in pngs[: len(own)]]
            table = pa.table({"key": own, "image": pictures}, schema=images_schema())
            writer.write_part(part, {f"images/part-{part:05d}.parquet": table}, {})
        rows = [sample_row(_sample(k), sha256="0" * 64, width=size, height=size) for k in keys]
        samples = pa.Table.from_pylist(rows, samples_schema(CHEXPERT_LABELS))
        files = {"samples.parquet": samples, "excluded.jsonl": b""}
        writer.finish(-(-number // PART), files, summary={"channels": 1})
    return PreparedFolder(folder)


def _sample(key: str) -> Sample:
    return Sample(
        key=key, patient_id=key, study_id=key, split="train", view="PA", prompt="a film",
        prompt_source="impression", labels=dict.fromkeys(CHEXPERT_LABELS), modality="cxr",
        source=f"{key}.png",
    )  # fmt: skip
