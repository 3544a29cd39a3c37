"""Fixtures every folder of tests shares: a small prepared folder, written without any adapter."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from arra_med.schema import CHEXPERT_LABELS, Sample
from arra_med.store import PreparedFolder
from tests.prepared import save_prepared

os.environ.setdefault("OMP_NUM_THREADS", "1")

TEXTS = (
    "left effusion.",
    "no acute finding.",
    "large right pneumothorax with shift, and a line that ends in the vein.",
    "clear.",
)


def write_prepared(folder: Path, *, num: int = 40, size: int = 32) -> PreparedFolder:
    """A prepared folder of ``num`` pictures: effusion brightens the lower half, and so on."""
    rng = np.random.default_rng(0)
    items = []
    for index in range(num):
        effusion, heart = int(index % 2 == 0), int(index % 3 == 0)
        picture = rng.normal(90, 12, (size, size, 1))
        picture[size // 2 :] += 80 * effusion
        picture[:, size // 3 : size // 2] += 60 * heart
        labels: dict[str, int | None] = dict.fromkeys(CHEXPERT_LABELS)
        labels |= {"Pleural Effusion": effusion, "Cardiomegaly": heart}
        sample = Sample(
            key=f"p{index:03d}/s{index:03d}/i{index:03d}",
            patient_id=f"p{index // 2:03d}",
            study_id=f"s{index:03d}",
            split="train" if index < num * 0.6 else "validate" if index < num * 0.8 else "test",
            view=("PA", "AP", "lateral")[index % 3],
            prompt=f"PA view chest x-ray image, {TEXTS[index % len(TEXTS)]}",
            prompt_source="impression",
            labels=labels,
            modality="cxr",
            source=f"i{index:03d}.png",
        )
        items.append((sample, picture.clip(0, 255).astype(np.uint8)))
    return save_prepared(folder, items)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedFolder:
    return write_prepared(tmp_path / "prepared")


@pytest.fixture(autouse=True)
def _log_level() -> None:
    """The command line sets the package's log level for the whole process: begin without one."""
    logging.getLogger("arra_med").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The open stand-in data, or a skip that says where it was looked for."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ARRA_MED_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no stand-in data at {folder}; set ARRA_MED_REAL_DATA to its folder")
    return folder
