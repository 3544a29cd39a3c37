"""Drawing from Python: what the docs promise in five lines."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arra_med.errors import RequestError, WorkError
from arra_med.generation.folder import GeneratedFolder
from arra_med.generation.generator import Generator
from arra_med.generation.language_model import LanguageModel
from arra_med.images import decode_png
from arra_med.model.export import load_export
from tests.generation.conftest import Run, write_tiny_export

CPU = torch.device("cpu")


@pytest.fixture
def generator(export: Path) -> Generator:
    return Generator.from_export(export, device=CPU, top_k=8)


def test_pictures_are_those_of_the_stage(generator: Generator, run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("left effusion.\nclear.")
    run("g", seed=5, prompts=tmp_path / "p.txt")
    folder = GeneratedFolder(tmp_path / "g")
    pictures = generator(["left effusion.", "clear."], num=2, seed=5, guidance=2)
    assert [(p.key, p.index) for p in pictures] == [(r["key"], r["index"]) for r in folder.rows]
    for picture, row in zip(pictures, folder.rows, strict=True):
        assert picture.png == folder.png(row)
        assert np.array_equal(decode_png(picture.png), picture.pixels)


def test_a_picture_has_its_codes_and_is_an_image(generator: Generator, export: Path) -> None:
    (picture,) = generator(["clear."])
    assert (picture.image.mode, picture.image.size) == ("L", (32, 32))
    tokenizer = load_export(export, CPU).image_tokenizer
    decoded = tokenizer.decode(torch.from_numpy(picture.codes)[None])[0]
    assert np.array_equal(decoded.permute(1, 2, 0).numpy(), picture.pixels)


def test_one_text_is_one_prompt(generator: Generator) -> None:
    assert len(generator("left effusion.", num=2)) == 2


def test_a_damaged_export_does_not_draw(export: Path) -> None:
    (export / "README.md").write_text("a model card of the user's own")
    path = export / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(WorkError, match=r"1 changed \(first model.safetensors\)"):
        Generator.from_export(export, device=CPU)(["clear."])


def test_colour_images_are_rgb(tmp_path: Path) -> None:
    folder = write_tiny_export(tmp_path / "colour", channels=3)
    (picture,) = Generator.from_export(folder, device=CPU)(["clear."])
    assert picture.image.mode == "RGB"


def test_guidance_changes_without_loading_again(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = generator(["clear."])
    monkeypatch.setattr("arra_med.generation.source.load_export", None)
    (other,) = generator(["clear."], guidance=1)
    (again,) = generator(["clear."])
    assert Image.open(io.BytesIO(other.png)).text["guidance"] == "1"
    assert first.png == again.png
    assert not np.array_equal(first.codes, other.codes)


def test_progress_is_told(export: Path) -> None:
    told = []
    generator = Generator.from_export(export, device=CPU, batch_size=2)
    generator(["clear."], num=5, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_what_is_wrong_is_said(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="1 of 2 prompts are empty"):
        generator(["clear.", " "])
    with pytest.raises(RequestError, match="no prompts"):
        generator([])
    with pytest.raises(ValueError, match="images_per_prompt must be positive"):
        generator(["clear."], num=0)
    with pytest.raises(ValueError, match="seed must not be negative"):
        generator(["clear."], seed=-1)
    with pytest.raises(FileNotFoundError, match=r"arra-med assets fetch owner/model'"):
        Generator.from_export("owner/model")
    with pytest.raises(FileNotFoundError, match="no exported model"):
        Generator.from_export(tmp_path / "none")
    assert isinstance(generator._backend, LanguageModel)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_decoding_s_memory_is_kept_free(export: Path) -> None:
    backend = Generator.from_export(export, device=torch.device("cuda"))._backend
    assert isinstance(backend, LanguageModel)
    assert backend._decoding_bytes() >= 32 * 32  # one picture's bytes at the very least
    assert backend.largest_batch(5) >= 1
