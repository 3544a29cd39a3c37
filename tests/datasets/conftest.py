"""Fixtures that several tests of datasets share."""

import numpy as np
import pytest
from PIL import Image

from tests.datasets.ingest_source import write_source


@pytest.fixture
def root(tmp_path):
    """A folder of five small pictures, some with awkward names."""
    for name in ("a.png", "b.png", "c.png", "röntgen bild.png", "it's.png"):
        Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def source(tmp_path):
    """23 rows of a table: 20 pictures, one broken, one missing, one without words."""
    return write_source(tmp_path / "source")
