"""``tokenize``: shards change no byte, whichever runs last joins, and the codes are the model's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.images import decode_png
from arra_med.settings import Tokenizer, TokenizerTraining
from arra_med.store import MANIFEST, PreparedFolder, Shard
from arra_med.tokenizers.base import load_tokenizer
from arra_med.tokenizers.cache import open_tokens, tokenize
from arra_med.tokenizers.monai_vqvae import MonaiVqvaeOptions
from arra_med.tokenizers.train import train_tokenizer
from tests.conftest import write_prepared

CPU = torch.device("cpu")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    """Ninety pictures in six parts, the last of them of ten."""
    return write_prepared(tmp_path_factory.mktemp("prepared") / "prepared", num=90)


@pytest.fixture(scope="module")
def tokenizer(original: PreparedFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained a little: untrained, it gives every picture the same code."""
    options = MonaiVqvaeOptions(channels=(8, 8), residual_layers=1, num_codes=16, code_dimension=8)
    settings = Tokenizer(
        plugin=PluginConfig(name="monai-vqvae", options=options),
        training=TokenizerTraining(steps=20, batch_size=8),
    )
    folder = tmp_path_factory.mktemp("trained") / "tokenizer"
    train_tokenizer(settings, original, folder, seed=0, device=CPU)
    return folder


def test_a_tokenizer_that_other_pictures_trained_is_named(
    original: PreparedFolder, tokenizer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same pictures, split anew: those of the test split may have trained it."""
    tokenize(copy(original, tmp_path / "same"), tokenizer, batch_size=8, device=CPU)
    assert "was trained on another prepared folder" not in caplog.text
    other = write_prepared(tmp_path / "other", num=20)
    tokenize(other, tokenizer, batch_size=8, device=CPU)
    assert "was trained on another prepared folder" in caplog.text


def test_more_codes_than_sixteen_bits_name_are_refused(
    original: PreparedFolder, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = load_tokenizer(tokenizer)
    wide.num_codes = 70_000
    monkeypatch.setattr("arra_med.tokenizers.cache.load_tokenizer", lambda _: wide)
    with pytest.raises(RequestError, match="has 70,000 codes"):
        tokenize(copy(original, tmp_path / "wide"), tokenizer, batch_size=8, device=CPU)


def copy(original: PreparedFolder, folder: Path) -> PreparedFolder:
    shutil.copytree(original.folder, folder)
    return PreparedFolder(folder)


def test_four_shards_joined_equal_no_shards(
    tmp_path: Path, original: PreparedFolder, tokenizer: Path
) -> None:
    assert len(original.image_parts) == 6
    alone = copy(original, tmp_path / "alone")
    expected = tree(tokenize(alone, tokenizer, batch_size=7, device=CPU))
    shared = copy(original, tmp_path / "shared")
    for index in (2, 0, 3, 1):
        folder = tokenize(shared, tokenizer, batch_size=7, device=CPU, shard=Shard(index, 4))
        assert not (folder / MANIFEST).exists()
        with pytest.raises(FileNotFoundError, match="not finished"):
            open_tokens(shared, tokenizer)
    assert len(list(folder.glob("part-*.arrow"))) == 6
    assert tree(tokenize(shared, tokenizer, batch_size=7, device=CPU)) == expected
    assert MANIFEST in expected


def test_the_joining_run_does_what_a_lost_shard_left(
    tmp_path: Path, original: PreparedFolder, tokenizer: Path
) -> None:
    alone = copy(original, tmp_path / "alone")
    expected = tree(tokenize(alone, tokenizer, batch_size=32, device=CPU))
    shared = copy(original, tmp_path / "shared")
    for index in (0, 2):
        tokenize(shared, tokenizer, batch_size=32, device=CPU, shard=Shard(index, 3))
    folder = tokenize(shared, tokenizer, batch_size=32, device=CPU)
    assert tree(folder) == expected
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    tokenize(shared, tokenizer, batch_size=32, device=CPU, shard=Shard(1, 3))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_codes_are_those_of_each_picture_alone(
    tmp_path: Path, original: PreparedFolder, tokenizer: Path
) -> None:
    prepared = copy(original, tmp_path / "prepared")
    tokenize(prepared, tokenizer, batch_size=7, device=CPU)
    cache, model = open_tokens(prepared, tokenizer), load_tokenizer(tokenizer)
    assert len(cache) == 90
    seen = set()
    for key, png in list(prepared.iter_images())[::13]:
        pixels = torch.from_numpy(decode_png(png).copy()).permute(2, 0, 1)
        codes = model.encode(pixels[None]).flatten().numpy()
        assert np.array_equal(cache[key], codes)
        seen |= set(codes.tolist())
    assert len(seen) > 1


def test_another_tokenizer_cannot_join_a_folder_of_the_first(
    tmp_path: Path, original: PreparedFolder, tokenizer: Path
) -> None:
    prepared = copy(original, tmp_path / "prepared")
    folder = tokenize(prepared, tokenizer, batch_size=32, device=CPU, shard=Shard(0, 2))
    plan = folder / ".partial" / "plan.json"
    plan.write_text(plan.read_text().replace(prepared.content_hash, "0" * 64))
    with pytest.raises(RequestError, match="another configuration"):
        tokenize(prepared, tokenizer, batch_size=32, device=CPU, shard=Shard(1, 2))
