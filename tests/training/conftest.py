"""The stages before training, run once for all tests of this folder."""

from pathlib import Path

import pytest

from arra_med.cli.main import main
from tests.conftest import write_prepared
from tests.pipeline import write_config


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared folder, tokens and features, and ``config.yaml``."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_prepared(folder / "prepared")
    config = write_config(folder)
    for verb in ("train-tokenizer", "tokenize", "features"):
        assert main([verb, str(config), "-q"]) == 0
    return folder
