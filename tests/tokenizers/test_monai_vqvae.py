"""MONAI's VQ-VAE behind the tokenizer interface, its training, and the token cache."""

import multiprocessing
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import torch

from arra_med.config import PluginConfig
from arra_med.errors import RequestError
from arra_med.settings import Tokenizer, TokenizerTraining
from arra_med.store import PartWriter, PreparedFolder
from arra_med.tokenizers.base import load_tokenizer, tokenizer_id
from arra_med.tokenizers.cache import open_tokens, tokenize
from arra_med.tokenizers.monai_vqvae import MonaiVqvae, MonaiVqvaeOptions
from arra_med.tokenizers.train import train_tokenizer
from tests.forks import ForkedProcess
from tests.test_store import contents

OPTIONS = MonaiVqvaeOptions(channels=(8, 16), residual_layers=1, num_codes=32, code_dimension=8)
CPU = torch.device("cpu")


@pytest.fixture
def tokenizer() -> MonaiVqvae:
    return MonaiVqvae.create(OPTIONS, image_size=32, channels=1, seed=0).eval()


def train(prepared: PreparedFolder, folder: Path, steps: int = 60) -> dict:
    settings = Tokenizer(
        plugin=PluginConfig(name="monai-vqvae", options=OPTIONS),
        training=TokenizerTraining(steps=steps, batch_size=8, learning_rate=2e-3),
    )
    return train_tokenizer(settings, prepared, folder, seed=0, device=CPU)


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_ranges(channels: int) -> None:
    tokenizer = MonaiVqvae.create(OPTIONS, image_size=32, channels=channels, seed=0).eval()
    images = torch.randint(0, 256, (3, channels, 32, 32), dtype=torch.uint8)
    codes = tokenizer.encode(images)
    assert codes.shape == (3, *tokenizer.grid) == (3, 8, 8)
    assert codes.dtype == torch.int64
    assert 0 <= codes.min() <= codes.max() < tokenizer.num_codes == 32
    decoded = tokenizer.decode(codes)
    assert (decoded.shape, decoded.dtype) == (images.shape, torch.uint8)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 1, 32, 32),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 1, 16, 16, dtype=torch.uint8),
    ],
)
def test_a_picture_of_another_kind_is_refused(tokenizer: MonaiVqvae, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected uint8 pictures of shape"):
        tokenizer.encode(images)


def test_chunks_give_what_one_pass_gives(
    tokenizer: MonaiVqvae, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = tokenizer.image_size
    images = torch.randint(0, 256, (5, tokenizer.channels, side, side), dtype=torch.uint8)
    codes = tokenizer.encode(images)
    pixels = tokenizer.decode(codes)
    sizes: list[int] = []
    tokenizer.model.encoder.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    tokenizer.model.decoder.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    monkeypatch.setattr("arra_med.tokenizers.base.CHUNK_PIXELS", 2 * side * side)
    assert torch.equal(tokenizer.encode(images), codes)
    assert (tokenizer.decode(codes).int() - pixels.int()).abs().max() <= 1
    assert sizes == [2, 2, 1, 2, 2, 1]


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(RequestError, match="30 px do not divide into codes of 4 px"):
        MonaiVqvae.create(OPTIONS, image_size=30, channels=1, seed=0)


def test_saved_and_loaded_it_gives_the_same(tokenizer: MonaiVqvae, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(again.encode(images), tokenizer.encode(images))
    name = tokenizer_id(tmp_path)
    assert name.startswith("monai-vqvae-")
    MonaiVqvae.create(OPTIONS, image_size=32, channels=1, seed=1).save(tmp_path)
    assert tokenizer_id(tmp_path) != name


def test_no_tokenizer_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config.json is missing.*train-tokenizer"):
        load_tokenizer(tmp_path)


def test_the_codebook_starts_from_data_and_dead_codes_are_revived() -> None:
    tokenizer = MonaiVqvae.create(OPTIONS, image_size=32, channels=1, seed=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8)
    latents = tokenizer.model.encode(tokenizer._normalise(images))
    tokenizer.training_loss(images, generator)
    book = tokenizer.model.quantizer.quantizer.embedding.weight
    nearest = torch.cdist(book, latents.permute(0, 2, 3, 1).reshape(-1, 8)).min(dim=1).values
    assert nearest.median() < 0.1
    book[5] = 1e3
    tokenizer.model.quantizer.quantizer.ema_cluster_size[5] = 0
    tokenizer.batches.zero_()
    tokenizer.training_loss(images, generator)
    assert book[5].abs().max() < 100


def test_training_learns_reports_and_is_not_repeated(
    prepared: PreparedFolder, tmp_path: Path
) -> None:
    untrained = train(prepared, tmp_path / "short", steps=1)["metrics"]
    manifest = train(prepared, tmp_path / "long")
    assert manifest["metrics"]["psnr_db"] > untrained["psnr_db"] + 3
    assert manifest["metrics"]["num_images"] == 8
    assert (tmp_path / "long" / "reconstructions.png").read_bytes()[:4] == b"\x89PNG"
    before = contents(tmp_path / "long")
    train(prepared, tmp_path / "long")
    assert contents(tmp_path / "long") == before
    with pytest.raises(RequestError, match=r"training.steps \(60 there, 61 asked for\)"):
        train(prepared, tmp_path / "long", steps=61)


def test_tokens_are_those_of_one_picture_at_a_time(
    prepared: PreparedFolder, tokenizer: MonaiVqvae, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    folder = tokenize(prepared, tmp_path / "tokenizer", batch_size=7, device=CPU)
    assert folder.parent == prepared.folder / "tokens"
    cache = open_tokens(prepared, tmp_path / "tokenizer")
    cache.require(prepared, prepared.keys)
    from arra_med.images import decode_png

    for key, png in list(prepared.iter_images())[::9]:
        image = torch.from_numpy(decode_png(png).copy()).permute(2, 0, 1)[None]
        assert np.array_equal(cache[key], tokenizer.encode(image).flatten().numpy())


def test_tokens_of_another_tokenizer_are_not_found(
    prepared: PreparedFolder, tokenizer: MonaiVqvae, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "a")
    tokenize(prepared, tmp_path / "a", batch_size=8, device=CPU)
    MonaiVqvae.create(OPTIONS, image_size=32, channels=1, seed=1).save(tmp_path / "b")
    with pytest.raises(FileNotFoundError, match="run 'arra-med tokenize'"):
        open_tokens(prepared, tmp_path / "b")


def tokenize_slowly(prepared: Path, tokenizer: Path, ready: Event) -> None:
    """In a process of its own, which waits before it writes a part."""
    write_part = PartWriter.write_part

    def slowly(self: PartWriter, *arguments: object) -> None:
        time.sleep(0.15)
        write_part(self, *arguments)  # type: ignore[arg-type]

    PartWriter.write_part = slowly  # type: ignore[assignment]
    ready.set()
    tokenize(PreparedFolder(prepared), tokenizer, batch_size=8, device=CPU)


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_gives_the_same_bytes(
    prepared: PreparedFolder, tokenizer: MonaiVqvae, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    folder = tokenize(prepared, tmp_path / "tokenizer", batch_size=16, device=CPU)
    whole = contents(folder)
    for path in sorted(folder.iterdir()):
        path.unlink()
    folder.rmdir()
    rng = np.random.default_rng(1)
    for moment in (*(0.7 * rng.random(3)), None):
        ready = multiprocessing.get_context("forkserver").Event()
        place = (prepared.folder, tmp_path / "tokenizer", ready)
        process = ForkedProcess(target=tokenize_slowly, args=place)
        process.start()
        assert ready.wait(60)
        process.join(moment)
        if moment is not None:
            process.kill()
            process.join()
    assert process.exitcode == 0
    assert contents(folder) == whole
